#include "preload/keeper/session.h"

#include <errno.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "preload/base/memory.h"
#include "preload/base/own_calls.h"
#include "preload/base/own_mappings.h"
#include "preload/base/ranges.h"
#include "preload/heap/allocator.h"
#include "preload/heap/inherited.h"
#include "preload/heap/mappings.h"
#include "preload/heap/nested_heap.h"
#include "preload/heap/session.h"
#include "preload/heap/tracker.h"
#include "preload/keeper/follow.h"
#include "preload/keeper/identity.h"
#include "preload/keeper/keeper.h"
#include "preload/keeper/marks.h"
#include "preload/keeper/monitor.h"
#include "preload/keeper/process_events.h"
#include "preload/keeper/region_file.h"
#include "preload/keeper/run.h"
#include "preload/platform/main_executable.h"
#include "preload/platform/procfs.h"
#include "preload/stacks/modules.h"
#include "preload/stacks/rules.h"
#include "preload/stacks/walk.h"

extern "C" void* __libc_stack_end;   // ld.so: where argc lies when the program starts

namespace tidemark::keeper {
using namespace format;

constinit Options options{};

namespace {
constinit uint32_t inert_word = base::kInert;
// The session word's page, zero-filled in a child of fork: locks there are free in any child, also where no fork handler ran (_Fork,
// a raw clone) while another of the parent's threads held one.
struct WipedPage {
  uint32_t word;
  uint32_t keeper_begun;   // in this process: no child that no fork handler ran for takes its parent's for its own
  alignas(64) base::SpinLock begin_lock, move_lock;
};
constinit WipedPage* wiped_page = nullptr;
constinit base::SpinLock start_lock;
constinit uint32_t serial = 1;
constinit int64_t acting_since = 0;      // CLOCK_MONOTONIC; see make_region
constinit bool left_untracked = false;   // blocks come and go without their records: what those say is not so any more
constexpr uint64_t kMinInterval = 100, kMaxInterval = 366ull * 86'400'000;   // milliseconds: the keeper does other things, too; no sum overflows
constexpr uint32_t kFreezeTries = 70;   // 20 ms: meanwhile whoever calls malloc waits
// A thread whose handler jumped out of the allocator, and which never calls it again, is busy for ever: each try is twice as long after the last one, and at
// last, after some 100 s, the process stays unrecorded.
constexpr uint32_t kMostFreezes = 10;
constexpr int64_t kFirstPauseNs = 100'000'000;
constinit uint32_t freezes_failed = 0;
constinit int64_t next_freeze = 0;      // CLOCK_MONOTONIC

int32_t pid() { return int32_t(syscall(SYS_getpid)); }

void set_word(uint32_t word) { __atomic_store_n(base::session_word, word, __ATOMIC_RELEASE); }
void wake_waiters() { syscall(SYS_futex, base::session_word, FUTEX_WAKE_PRIVATE, INT32_MAX, nullptr, nullptr, 0); }

// envp as the kernel laid it out: libc has not set environ yet when ld.so first calls malloc.
const char* early_variable(const char* name) {
  auto** p = static_cast<char**>(__libc_stack_end) + 1;
  while (*p) p++;   // arguments
  size_t n = strlen(name);
  for (p++; *p; p++)
    if (strncmp(*p, name, n) == 0 && (*p)[n] == '=') return *p + n + 1;
  return nullptr;
}

void refuse(Refusal reason, int error, const char* detail) {
  note_refusal(reason, error, detail);
  base::session_word = &inert_word;
}

bool make_word_page() {
  auto* page = static_cast<WipedPage*>(base::map_private(kPageBytes));
  if (!page || madvise(page, kPageBytes, MADV_WIPEONFORK) != 0) return false;
  wiped_page = page;
  return true;
}

// The tables that go with an empty store.
bool start_tables() {
  if (!stacks::start_rules() || !stacks::start_tree() || !stacks::start_caches()) return false;
  uint32_t id = base::take_stack();
  if (!id) return false;
  auto* s = base::line<StackRecord>(id);
  s->owner = heap::kNeverOwned;
  s->shared = base::take_lines(PageKind::kShared, kStripes);   // now: later there is no room
  if (s->shared) base::line<SharedCounters>(s->shared)->stack = id;
  __atomic_store_n(&s->leaf_and_kind, uint32_t(StackKind::kOverflow) << 24, __ATOMIC_RELEASE);
  base::header().overflow_stack = id;
  return true;
}

void open_session(uint32_t word) {
  heap::session_serial = ++serial;
  heap::grace_allocations = options.child_grace_allocations > UINT32_MAX ? UINT32_MAX : uint32_t(options.child_grace_allocations);
  wiped_page->word = word == base::kGrace ? word : serial;
  base::session_word = &wiped_page->word;
}

bool start_in_private_memory(uint32_t first_line) {
  auto* memory = static_cast<char*>(base::reserve(options.child_region_size));
  return memory && base::format_store(base::store, memory, options.child_region_size, first_line);
}

void start_clock(int64_t started_monotonic_ns) {
  Header& h = base::header();
  h.started_realtime_ns = platform::realtime_ns();
  h.started_monotonic_ns = started_monotonic_ns;
  h.heartbeat_realtime_ns = h.started_realtime_ns;
  h.heartbeat_monotonic_ns = platform::monotonic_ns();
  h.pid = pid();
  h.run_id = run.id;
}

// The launched program: its region is there before its first allocation is recorded.
void start_recording() {
  char name[64];
  region_name(name);
  if (!book_region(options.region_size)) return refuse(Refusal::kRegionsMax, 0, region_folder());
  RegionFile& file = create_region_file(region_folder(), name, pid(), options.region_size);
  if (!file.memory) {
    unbook_region(options.region_size);
    return refuse(file.reason, file.error, file.path);
  }
  if (!base::format_store(base::store, file.memory, file.bytes, 0) || !start_tables()) {
    discard_region_file(file);
    unbook_region(options.region_size);
    return refuse(Refusal::kNoMemory, ENOMEM, nullptr);
  }
  start_clock(platform::monotonic_ns());
  base::header().origin = uint32_t(Origin::kLaunched);
  base::header().region_in_memory = file.in_memory;
  fill_identity();
  if (!publish_region_file(file)) {
    unbook_region(options.region_size);
    return refuse(file.reason, file.error, file.path);
  }
  if (!open_ledger()) host_ledger(file.path, file.bytes);
  open_session(0);
}

void start_grace() {
  if (!start_in_private_memory(0) || !start_tables()) return refuse(Refusal::kNoMemory, ENOMEM, nullptr);
  start_clock(platform::monotonic_ns());
  base::header().origin = uint32_t(Origin::kExeced);
  base::header().uid = geteuid();
  base::header().ppid = int32_t(getppid());
  open_session(base::kGrace);
}

void make_absolute(Text& dir) {
  if (!dir.value[0] || dir.value[0] == '/') return;
  char whole[kTextOption];
  size_t n = platform::read_link("/proc/self/cwd", whole, sizeof(whole) - 1), m = strlen(dir.value);
  if (!n || n + m + 2 > sizeof(whole)) return;
  whole[n] = '/';
  memcpy(whole + n + 1, dir.value, m + 1);
  memcpy(dir.value, whole, n + m + 2);
}

// With a limit on address space, what we take must not be what the program would have needed.
bool tight_address_space() {
  constexpr uint64_t kTables = 24 << 20;
  rlimit limit;
  if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return false;
  char text[64];
  text[platform::read_file("/proc/self/statm", text, sizeof(text) - 1)] = 0;
  uint64_t used = strtoull(text, nullptr, 10) * kPageBytes;
  return limit.rlim_cur < used || (options.region_size + kTables) > (limit.rlim_cur - used) / 4;
}

uint64_t clamp_region(uint64_t bytes) {
  bytes &= ~uint64_t{kPageBytes - 1};
  return bytes < kMinRegionBytes ? kMinRegionBytes : bytes > kMaxRegionBytes ? kMaxRegionBytes : bytes;
}

// What is mapped of the parent's region must not be written by this process, but for the header's coverage.
void protect_parent() {
  mprotect(base::store.start + kPageBytes, base::store.bytes - kPageBytes, PROT_READ);
}

// Ids have run out after many generations of forks, or the parent was not tracked any more: inherited blocks become untracked.
void forget_inherited_blocks(uint64_t& bytes) {
  heap::for_each_block([&](std::atomic<heap::Record>& at, heap::Record, uint64_t n) {
    at.store(0, std::memory_order_relaxed);
    bytes += n;
  });
}

void reset_locks_in_child() {
  base::reset_ranges_lock();
  heap::forget_mappings();
  base::forget_small_tables();
  base::forget_store_cursors();
  heap::forget_threads();
  heap::reset_page_map_lock();
  stacks::reset_modules_lock();
  stacks::reset_rules_lock();
  stacks::reset_tree_lock();
  stacks::reset_walk_buffers();
  reset_marks();
}

bool freeze(uint32_t tries) {
  syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
  set_word(base::kFrozen);
  if (syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) != 0) usleep(10'000);   // store buffers drain by themselves
  for (uint32_t i = 0; i < tries; i++) {
    if (heap::lock_idle_threads()) return true;
    if (i < 50) sched_yield();
    else usleep(1000);
  }
  return false;
}

// Everything outside of malloc waits while this runs. On failure `file` is left with what can be given back of it.
bool replace_memory(RegionFile& file) {
  base::Store& s = base::store;
  heap::adopt_inherited();
  uint64_t used = base::header().used_pages * kPageBytes;
  memcpy(file.memory, s.start, used);
  if (mprotect(file.memory + s.opened, file.bytes - s.opened, PROT_NONE) != 0 && s.opened < file.bytes) return false;
  // Two mappings of unlike protection cannot be moved by one call.
  uint64_t opened = s.opened;
  if (base::own_mremap(file.memory, opened, opened, MREMAP_MAYMOVE | MREMAP_FIXED, s.start) == MAP_FAILED) return false;
  file.memory += opened;
  file.bytes -= opened;
  return !file.bytes || base::own_mremap(file.memory, file.bytes, file.bytes, MREMAP_MAYMOVE | MREMAP_FIXED, s.start + opened) != MAP_FAILED;
}

void count_refused_child(Refusal reason, int error) {
  Coverage what = reason == Refusal::kRegionsMax ? kChildrenOverLimit : kChildrenUnrecorded;
  if (geteuid() != base::header().uid && (error == EACCES || error == EPERM)) what = kChildrenOtherUser;
  note_in_parent(what, region_folder());
}

bool refuse_child(Refusal reason, int error, const char* detail) {
  count_refused_child(reason, error);
  note_refusal(reason, error, detail);
  stop_recording();
  return true;
}
// From here to the last line every thread that calls malloc waits.
bool move_into(RegionFile& file) {
  base::header().region_in_memory = file.in_memory;
  if (heap::without_keeper && !base::header().coverage[kKeeperMissing]) base::count(kKeeperMissing);
  fill_identity();
  if (!freeze(kFreezeTries)) {
    set_word(base::kGrace);
    wake_waiters();
    base::count(kSwitchTimeouts);
    discard_region_file(file);
    unbook_region(base::store.bytes);
    next_freeze = platform::monotonic_ns() + (kFirstPauseNs << freezes_failed);
    return ++freezes_failed == kMostFreezes && refuse_child(Refusal::kNeverIdle, 0, nullptr);
  }
  if (!replace_memory(file)) {
    discard_region_file(file);
    unbook_region(base::store.bytes);
    refuse_child(Refusal::kMapFile, ENOMEM, region_folder());
  } else if (publish_region_file(file)) {
    set_word(heap::session_serial);
  } else {
    refuse_child(file.reason, file.error, file.path);
  }
  heap::unlock_threads();
  wake_waiters();
  return true;
}

// As the user that this thread is for files. false: try again later.
bool make_region_now() {
  if (!book_region(base::store.bytes)) return refuse_child(Refusal::kRegionsMax, 0, region_folder());
  char name[64];
  region_name(name);
  RegionFile& file = create_region_file(region_folder(), name, pid(), base::store.bytes);
  if (file.memory && base::open_memory(file.memory, file.bytes)) return move_into(file);
  unbook_region(base::store.bytes);
  if (file.memory) {
    discard_region_file(file);
    return refuse_child(Refusal::kMapFile, ENOMEM, file.path);
  }
  return refuse_child(file.reason, file.error, file.path);
}

// The users that this thread may be again, and is for files (credentials(7)). Where it acts for another one just now, as a file server does for a session,
// a file that it makes is that user's, who could change all that the shim does here.
struct Users {
  uid_t real, effective, saved, files;
  Users() : files(uid_t(syscall(SYS_setfsuid, -1))) {   // no user's number: the answer is who it is
    if (getresuid(&real, &effective, &saved) != 0) real = saved = effective = files;
  }
  bool differ() const { return real != effective || saved != effective || files != effective; }
  bool any_is_root() const { return !real || !effective || !saved; }
};
// Files that this thread makes are root's. It alone: a raw call is not repeated on others.
class FilesOfRoot {
 public:
  FilesOfRoot() : before_(uid_t(syscall(SYS_setfsuid, 0))) {}
  ~FilesOfRoot() { syscall(SYS_setfsuid, before_); }
  FilesOfRoot(const FilesOfRoot&) = delete;
  FilesOfRoot& operator=(const FilesOfRoot&) = delete;

 private:
  uid_t before_;
};

// false: try again later.
bool make_region() {
  constexpr int64_t kPatience = 10'000'000'000;   // ns
  if (platform::monotonic_ns() < next_freeze) return false;
  Users users;
  if (!users.differ()) return make_region_now();
  if (users.any_is_root()) {
    FilesOfRoot scope;
    return make_region_now();
  }
  if (!acting_since) acting_since = platform::monotonic_ns();
  return platform::monotonic_ns() - acting_since > kPatience && refuse_child(Refusal::kOtherUser, EPERM, region_folder());
}
}  // namespace

const char* region_folder() { return options.dir.value[0] ? options.dir.value : kFolderWithoutDir; }

void make_sensible(Options& o) {
  o.region_size = clamp_region(o.region_size);
  o.child_region_size = clamp_region(o.child_region_size);
  for (uint64_t* interval : {&o.sample_interval, &o.cleanup_interval, &o.baseline_after, &o.cache_duration, &o.warn_eta})
    if (*interval > kMaxInterval) *interval = kMaxInterval;
  if (o.sample_interval < kMinInterval) o.sample_interval = kMinInterval;
  if (o.cleanup_interval && o.cleanup_interval < kMinInterval) o.cleanup_interval = kMinInterval;
  make_absolute(o.dir);
  make_absolute(o.rules);
  if (strcmp(o.log.value, "syslog") != 0) make_absolute(o.log);
}

TIDEMARK_COLD void start_early() {
  int saved = errno;
  base::SpinGuard guard(start_lock);
  if (*base::session_word != base::kUnstarted) return;
  base::main_thread = &base::thread_state;
  base::learn_own_calls();
  heap::set_foreign(platform::main_executable_defines("malloc"));
  set_defaults(options);
  const char* error = nullptr;
  bool understood = parse_options(early_variable("TIDEMARK_OPTIONS"), options, &error);
  if (!options.enable) {
    base::session_word = &inert_word;
    errno = saved;
    return;
  }
  make_sensible(options);
  const bool tight = tight_address_space();
  heap::choose_heap(options.arenas, tight);
  read_run(early_variable("TIDEMARK_RUN"), region_folder());
  if (tight) refuse(Refusal::kNoMemory, ENOMEM, "RLIMIT_AS (ulimit -v)");
  else if (!understood) refuse(Refusal::kBadOptions, EINVAL, error);
  else if (!make_word_page()) refuse(Refusal::kNoMemory, errno, nullptr);
  else if (!is_root(pid()) && !followed(options.follow.value)) base::session_word = &inert_word, note_not_followed();
  else if (!heap::start_heap()) refuse(Refusal::kNoMemory, ENOMEM, nullptr);
  else {
    if (is_root(pid())) start_recording();
    else start_grace();
  }
  errno = saved;
}

void note_keeper_begun() {
  if (wiped_page) wiped_page->keeper_begun = 1;
}

// No fork handler ran that would have made one, or it has not come to that yet; now nobody may make a thread, for this is a call of malloc.
static void have_no_keeper() {
  heap::without_keeper = true;
  heap::grace_end_ns = platform::monotonic_ns() + int64_t(options.child_grace) * 1'000'000;
}

static constinit int32_t forked_by = 0;
void note_forked_by(int32_t pid) { forked_by = pid; }

TIDEMARK_COLD void begin_child() {
  int saved = errno;
  base::SpinGuard guard(wiped_page->begin_lock);
  if (*base::session_word != base::kWiped) return;
  heap::reset_arenas_lock();   // after a bare clone no fork handler has run
  heap::reset_nested_lock();
  Header& parent = base::header();
  if (monitor_is_confined()) {   // under its parent's seccomp filter it may not open a file
    base::count(kChildrenUnrecorded);
    base::session_word = &inert_word;
    errno = saved;
    return;
  }
  int64_t clock = parent.started_monotonic_ns;
  uint32_t lines = uint32_t(options.child_region_size / kLineBytes);
  uint32_t first = base::store.first_line + uint32_t(parent.used_pages) * kLinesPerPage;
  uint64_t forgotten = 0;
  bool out_of_ids = uint64_t{first} + lines > kMaxLineId;
  if (out_of_ids) first = 0;
  if (out_of_ids || left_untracked) forget_inherited_blocks(forgotten);
  left_untracked = false;
  freezes_failed = 0, next_freeze = acting_since = 0;   // its parent may have been in its own grace
  reset_locks_in_child();
  heap::push_ancestor();
  forget_ancestor();
  protect_parent();
  const char* parent_start = base::store.start;
  if (!start_in_private_memory(first) || !start_tables()) {
    refuse(Refusal::kNoMemory, ENOMEM, nullptr);
    errno = saved;
    return;
  }
  start_clock(clock);
  base::header().first_tick = base::header().tick = uint32_t((base::header().heartbeat_monotonic_ns - clock) / kTickNs);
  base::header().uid = reinterpret_cast<const Header*>(parent_start)->uid;
  base::header().origin = uint32_t(Origin::kForked);
  base::header().ppid = std::exchange(forked_by, 0);
  if (!base::header().ppid) base::header().ppid = int32_t(getppid());
  base::header().coverage[kInheritedUnknownBytes] = forgotten;
  stacks::copy_modules(parent_start);
  if (!wiped_page->keeper_begun && !heap::foreign()) have_no_keeper();
  open_session(base::kGrace);
  errno = saved;
}

TIDEMARK_COLD bool move_to_region() {
  int saved = errno;
  if (!wiped_page->move_lock.try_lock()) return false;   // another thread does it; who waits for it waits at the gate
  if (*base::session_word == base::kWiped) begin_child();   // under the lock, which a fork takes: or its child would have half of a store
  bool done = *base::session_word != base::kGrace || make_region();
  wiped_page->move_lock.unlock();
  errno = saved;
  return done;
}

// Where there is no keeper, nobody else would try again.
static void try_to_end_grace() {
  constexpr int64_t kPauseNs = 100'000'000;
  if (!move_to_region() && !keeper_is_running()) heap::grace_end_ns = std::max(next_freeze, platform::monotonic_ns() + kPauseNs);
}

void end_grace_without_keeper() {
  bool is_up = heap::without_keeper && *base::session_word == base::kGrace && heap::grace_end_ns && platform::monotonic_ns() >= heap::grace_end_ns;
  if (!is_up || base::thread_state.busy || monitor_is_confined()) return;   // busy: a handler's inside the allocator
  base::NoHandlers no_handlers;
  base::InternalScope scope;
  move_to_region();
}

void stop_recording() {
  left_untracked = true;
  set_word(base::kInert);
}

void end_recording() {
  base::header().stopped_realtime_ns = platform::realtime_ns();
  stop_recording();
  base::session_word = &inert_word;   // not in the page that fork wipes
}

bool freeze_program() {
  if (!wiped_page->move_lock.try_lock()) return false;   // a fork is under way
  if (recording() && freeze(kFreezeTries)) return true;
  if (base::session_word == &wiped_page->word && *base::session_word == base::kFrozen) set_word(heap::session_serial);
  wake_waiters();
  wiped_page->move_lock.unlock();
  return false;
}

void thaw_program() {
  set_word(heap::session_serial);
  heap::unlock_threads();
  wake_waiters();
  wiped_page->move_lock.unlock();
}

bool is_own_process() { return monitor_is_confined() || base::header().pid == pid(); }
bool recording() {
  uint32_t word = *base::session_word;
  return word == heap::session_serial && base::store.start && is_own_process();
}

void lock_session() {
  if (wiped_page) wiped_page->move_lock.lock();
}
bool lock_session_within(uint32_t milliseconds) {
  if (!wiped_page) return false;
  for (uint32_t i = 0; !wiped_page->move_lock.try_lock(); i++) {
    if (i == milliseconds) return false;
    usleep(1000);
  }
  return true;
}
void unlock_session() {
  if (wiped_page) wiped_page->move_lock.unlock();
}

}  // namespace tidemark::keeper

namespace tidemark::heap {
// Constant from the start: malloc may be called before any constructor.
constinit SessionCalls session_calls{keeper::start_early, keeper::begin_child, keeper::stop_if_last, keeper::try_to_end_grace};
}  // namespace tidemark::heap
