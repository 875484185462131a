#include "preload/keeper/session.h"

#include <errno.h>
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
#include "preload/keeper/region_move.h"
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
constinit bool left_untracked = false;   // blocks come and go without their records: what those say is not so any more
constexpr uint64_t kMinInterval = 100, kMaxInterval = 366ull * 86'400'000;   // milliseconds: the keeper does other things, too; no sum overflows

int32_t pid() { return int32_t(syscall(SYS_getpid)); }


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

// The store is not there, or only half of it, and whoever asks whose it is must not read that: what is there is the parent's, or none.
void refuse_for_no_memory(char* parent_start) {
  base::store.start = parent_start;
  refuse(Refusal::kNoMemory, ENOMEM, nullptr);
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
  read_identity();
  if (!book_region(options.region_size)) return refuse(Refusal::kRegionsMax, 0, region_folder());
  RegionFile& file = create_region_file(region_folder(), name, pid(), options.region_size);
  if (!file.memory) {
    unbook_region(options.region_size);
    return refuse(file.reason, file.error, file.path);
  }
  if (!base::format_store(base::store, file.memory, file.bytes, 0) || !start_tables()) {
    discard_region_file(file);
    unbook_region(options.region_size);
    return refuse_for_no_memory(nullptr);
  }
  start_clock(platform::monotonic_ns());
  base::header().origin = uint32_t(Origin::kLaunched);
  base::header().region_in_memory = file.in_memory;
  fill_identity();
  if (!publish_region_file(file)) {
    unbook_region(options.region_size);
    return refuse(file.reason, file.error, file.path);
  }
  note_region_made();
  if (!open_ledger()) host_ledger(file.path, file.bytes);
  open_session(0);
}

void start_grace() {
  if (!start_in_private_memory(0) || !start_tables()) return refuse_for_no_memory(nullptr);
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
  forget_moves();   // its parent may have been in its own grace
  reset_locks_in_child();
  heap::push_ancestor();
  forget_ancestor();
  protect_parent();
  char* parent_start = base::store.start;
  if (!start_in_private_memory(first) || !start_tables()) {
    __atomic_fetch_add(&parent.coverage[kChildrenUnrecorded], 1, __ATOMIC_RELAXED);
    refuse_for_no_memory(parent_start);
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
  if (!move_to_region() && !keeper_is_running()) heap::grace_end_ns = std::max(next_move_ns(), platform::monotonic_ns() + kPauseNs);
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

void leave_unrecorded() {
  base::count(kChildrenUnrecorded);
  base::give_up_shared_store();
  left_untracked = true;
  refuse(Refusal::kNoMemory, ENOMEM, nullptr);
}

bool freeze_program() {
  if (!wiped_page->move_lock.try_lock()) return false;   // a fork is under way
  if (recording() && freeze()) return true;
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
