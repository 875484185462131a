#include "preload/keeper/process_events.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "preload/base/ranges.h"
#include "preload/base/jemalloc.h"
#include "preload/base/memory.h"
#include "preload/base/own_calls.h"
#include "preload/base/store.h"
#include "preload/base/thread_state.h"
#include "preload/heap/allocator.h"
#include "preload/heap/mappings.h"
#include "preload/heap/page_map.h"
#include "preload/heap/threads.h"
#include "preload/heap/tracker.h"
#include "preload/keeper/errand.h"
#include "preload/keeper/follow.h"
#include "preload/keeper/handed_down.h"
#include "preload/keeper/keeper.h"
#include "preload/keeper/log.h"
#include "preload/keeper/marks.h"
#include "preload/keeper/monitor.h"
#include "preload/keeper/own_thread.h"
#include "preload/keeper/run.h"
#include "preload/keeper/session.h"
#include "preload/keeper/unused_tail.h"
#include "preload/platform/libunwind.h"
#include "preload/platform/executable.h"
#include "preload/platform/procfs.h"
#include "preload/stacks/frame_tree.h"
#include "preload/stacks/lookup.h"
#include "preload/stacks/modules.h"
#include "preload/stacks/rules.h"

namespace tidemark::keeper {
using namespace format;
namespace {

// The header, if it is this process's own and in a file; nullptr in a vfork child, in a grace, unrecorded.
Header* own_header() { return recording() ? &base::header() : nullptr; }

void note_ending(Ending ending, int status) {
  // A region that is being made right now is to be there when the process is gone. A signal handler may end the process while its thread forks, which
  // is when none is made, and holds the lock itself; or while it holds another that a thread waits for which forks: so not for ever.
  constexpr uint32_t kPatience = 3000;   // milliseconds
  if (base::store.start && !base::thread_state.internal && !base::thread_state.forking && is_own_process() && lock_session_within(kPatience))
    unlock_session();
  if (base::store.start && !base::thread_state.forking && is_own_process()) end_grace_without_keeper();
  Header* h = own_header();
  if (!h) return;
  heap::release_what_handlers_freed();
  h->exit_status = status;
  h->ended_realtime_ns = platform::realtime_ns();
  h->heartbeat_realtime_ns = h->ended_realtime_ns;   // else the time since the last heartbeat counts twice
  h->heartbeat_monotonic_ns = platform::monotonic_ns();
  __atomic_store_n(&h->ending, uint32_t(ending), __ATOMIC_RELEASE);
}

// As the next image will find it: capabilities that let this one pass by the file's permissions (setpriv(1) keeps them until it executes)
// are gone after execve, unless they are ambient (capabilities(7)).
bool folder_writable_after_exec() {
  auto writable = [] { return faccessat(AT_FDCWD, region_folder(), W_OK | X_OK, AT_EACCESS) == 0; };
  if (!writable()) return false;
  constexpr uint32_t kOverrides = 1u << CAP_DAC_OVERRIDE | 1u << CAP_DAC_READ_SEARCH;
  __user_cap_header_struct self{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct kept[2]{}, without[2];
  if (geteuid() == 0 || prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_DAC_OVERRIDE, 0, 0) == 1) return true;
  if (syscall(SYS_capget, &self, kept) != 0 || !(kept[0].effective & kOverrides)) return true;
  memcpy(without, kept, sizeof(kept));
  without[0].effective &= ~kOverrides;
  if (syscall(SYS_capset, &self, without) != 0) return true;   // of this thread only
  bool still = writable();
  syscall(SYS_capset, &self, kept);
  return still;
}

// Who is told of a program that is not going to be recorded. The header is the parent's in a fork child that has not begun a session: it is the right
// one to tell, too, unless that is in its grace.
Header* whom_to_tell(bool may_open_files) {
  uint32_t word = *base::session_word;
  bool in_file = word != base::kGrace && (word != base::kWiped || base::header().name.length);
  if (in_file) return &base::header();
  return may_open_files ? recorded_ancestor(region_folder()) : nullptr;
}

Loss tell(Coverage loss) {
  bool inside_a_call_of_ours = base::thread_state.busy;   // a signal handler is: locks may be held
  base::InternalScope scope;
  Header* h = whom_to_tell(!inside_a_call_of_ours && !monitor_is_confined());
  if (!h) return nullptr;
  __atomic_fetch_add(&h->coverage[loss], 1, __ATOMIC_RELAXED);
  return &h->coverage[loss];
}
void take_back(Loss counted) {
  uint64_t n = counted ? *counted : 0;   // 0, too, where the records were moved into their file just when it was counted
  while (n && !__atomic_compare_exchange_n(counted, &n, n - 1, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
}

bool is_recorded() { return base::store.start && *base::session_word != base::kInert; }

// The process changed its user since its region was made, and what it is about to execute cannot make one of its own.
Loss note_changed_user() {
  bool secure = getuid() != geteuid() || getgid() != getegid();   // to the kernel, AT_SECURE
  if (!secure && (geteuid() == base::header().uid || folder_writable_after_exec())) return nullptr;
  return tell(secure ? kChildrenSecure : kChildrenOtherUser);
}

// Whether no other thread can see a file that we open for a moment: it might fork, or find a number taken that is free. A vfork child has a table of its own.
bool has_table_alone() { return !heap::many_threads || base::header().pid != int32_t(syscall(SYS_getpid)); }

// Programs whose loader would not, or could not, bring us along.
bool is_out_of_reach(const char* path, Look look, Coverage& why) {
  char room[platform::kMostPath];
  if (look == Look::kSearched && !strchr(path, '/')) path = platform::search_path(path, environ, room);
  why = kChildrenNotEntered;
  if (look != Look::kNot && has_table_alone() && !platform::takes_preload(path)) return true;
  why = kChildrenElsewhere;
  // Where the folder may not be written to for another reason, who finds that out tells the nearest region: that is on the same file system.
  return !library_is_there() || (access(region_folder(), W_OK | X_OK) != 0 && errno == EROFS);
}

// What takes the place of the launched program is recorded whatever its name.
Loss note_lost_preload(const char* path, char* const* environment, bool takes_our_place, Look look) {
  Coverage why = kChildrenWithoutPreload;
  bool launched = takes_our_place && is_own_process() && is_root(base::header().pid);
  if (!launched && !follows(options.follow.value, path)) return nullptr;
  // Behind a filter no file is opened unasked.
  bool lost = loses_preload(environment) || (!filter_was_seen() && is_out_of_reach(path, look, why));
  return lost ? tell(why) : nullptr;
}

void begin(bool malloc_is_elsewhere) {
  if (malloc_is_elsewhere) heap::set_elsewhere();
  if (*base::session_word == base::kUnstarted) start_early();
  else if (malloc_is_elsewhere && own_header()) own_header()->heap_flags |= kHeapElsewhere;
  if (*base::session_word == base::kInert) {
    tell_parent_if_not_followed();
    return;
  }
  if (is_root(int32_t(syscall(SYS_getpid))) || run.joined) export_run();
  if (options.check) stacks::set_checker(platform::load_libunwind(), uint32_t(options.check));
  load_log();   // here: later the loader's lock may be held by who waits for the keeper
  start_keeper();
}
}  // namespace

void start(bool malloc_is_elsewhere) {
  base::InternalScope scope;
  base::learn_to_make_threads();
  learn_static_tls();
  learn_how_we_came();
  begin(malloc_is_elsewhere);
  // jemalloc's first call maps its tables and takes 8 KiB of stack: now, before the program has limited its memory, and while the stack is large. After the
  // options, some of which are jemalloc's.
  tmje_free(tmje_malloc(1));
}

void before_user_change() {
  base::NoCancellation guard;
  base::InternalScope scope;
  int saved = errno;
  if (*base::session_word == base::kGrace && base::header().pid == int32_t(syscall(SYS_getpid))) keep_what_tells(region_folder());
  errno = saved;
}

namespace {
// A vfork child runs in its parent's memory, and once a filter may kill who asks, is_own_process() cannot tell. Who executes may ask, but not who ends.
bool may_be_parents() { return monitor_is_confined() && keeper_of_another_process(); }
// This thread is such a child, which has executed in vain: its end is not noted. Where it executes after all, its parent has the thread's state back.
void note_vfork_child(bool is) { base::thread_state.vfork_child = is; }
}  // namespace

static void note_exited(int status, void (*then)()) {
  base::NoCancellation guard;
  int saved = errno;
  if (base::thread_state.vfork_child) return note_vfork_child(false);
  note_ending(Ending::kExited, status & 0xff);
  if (own_header()) then();
  errno = saved;
}
void note_exit(int status) { note_exited(status, give_back_unused_tail); }
static address word_of(const DaemonCall& call, const uint64_t& word) {
  return reinterpret_cast<address>(&word) ^ reinterpret_cast<address>(&call) << 20 ^ address{0x7469'6465'6d61'726b};
}
// Whether this is called by fork, which is called by that daemon(): some functions deep, and nothing has been in its place since.
static bool is_under_way(const void* daemon_call) {
  constexpr address kDeepest = 4096;
  const address here = heap::own_sp(), begin = reinterpret_cast<address>(daemon_call);
  if (begin - here >= kDeepest || !base::all_readable(daemon_call, sizeof(DaemonCall))) return false;
  const auto& call = *static_cast<const DaemonCall*>(daemon_call);
  for (const uint64_t& word : call.words)
    if (__atomic_load_n(&word, __ATOMIC_RELAXED) != word_of(call, word)) return false;
  return true;
}

// Until it has forked it may fail, and the program go on, all of whose stacks need room. (Not where a vfork child could not be told from its parent,
// which has the same thread state.)
void note_daemon_to_come(DaemonCall& call) {
  base::thread_state.daemon_call = nullptr;
  note_exited(0, [] { base::thread_state.daemon_call = filter_was_seen() ? nullptr : &base::thread_state; });
  if (!base::thread_state.daemon_call) return;
  for (uint64_t& word : call.words) __atomic_store_n(&word, word_of(call, word), __ATOMIC_RELAXED);
  base::thread_state.daemon_call = &call;
}

Loss note_exec(const char* path, char* const* environment, Look look) {
  base::NoCancellation guard;
  int saved = errno;
  note_vfork_child(false);
  if (may_be_parents()) return nullptr;
  Loss counted = is_recorded() ? note_changed_user() : nullptr;
  if (!counted && is_recorded()) counted = note_lost_preload(path, environment, true, look);
  note_ending(Ending::kReplaced, 0);
  errno = saved;
  return counted;
}

Loss note_spawn(const char* path, char* const* environment, Look look) {
  base::NoCancellation guard;
  int saved = errno;
  if (!is_recorded() || may_be_parents()) return nullptr;
  Loss counted = note_lost_preload(path, environment, false, look);
  errno = saved;
  return counted;
}

namespace {
// Not what another thread has noted meanwhile.
void take_back(Ending noted) {
  auto expected = uint32_t(noted);
  if (Header* h = own_header()) __atomic_compare_exchange_n(&h->ending, &expected, uint32_t(Ending::kNone), false, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
}
}  // namespace

void note_exec_failed(Loss counted) {
  take_back(counted);
  if (may_be_parents()) return note_vfork_child(true);
  take_back(Ending::kReplaced);
}
void note_spawn_failed(Loss counted) { take_back(counted); }
void note_daemon_returned(bool failed) {
  base::thread_state.daemon_call = nullptr;
  if (failed) take_back(Ending::kExited);
}

namespace {
// A handler that runs inside fork() finds our locks held; and glibc's own, since there is the keeper: natively a process of one thread has that one free, so that
// its handlers may exit, fork or jump away there. So signals wait until all is as it was. glibc's own stay open.
void hold_signals() {
  sigset_t all, before{};
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before);
  memcpy(&base::thread_state.signals, &before, sizeof(base::thread_state.signals));
}
void let_signals_go() {
  sigset_t before{};
  memcpy(&before, &base::thread_state.signals, sizeof(base::thread_state.signals));
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}
}  // namespace

// Whose child it is: when it is asked for, a daemon's parent has gone.
static constinit int32_t forking_process = 0;

namespace {
// The parent's handlers are called whether there is a child or not. Where there is none, fork() has set errno; nothing sets it to 0 (errno(3)).
constinit int errno_before_fork = 0;
void await_fork() {
  const void*& call = base::thread_state.daemon_call;
  if (call && (filter_was_seen() || !is_under_way(call))) {   // a handler jumped out of it: this process did not end
    call = nullptr;
    take_back(Ending::kExited);
  }
  if (call) errno_before_fork = std::exchange(errno, 0);
}
// Whether it was daemon()'s, and there is a child.
bool became_daemon() {
  bool became = std::exchange(base::thread_state.daemon_call, nullptr) && errno == 0;
  if (became) errno = errno_before_fork;
  return became;
}
}  // namespace

// Locks in the order in which they nest. Who moves the region holds the session's lock and waits until nobody is busy: it comes first.
void before_fork() {
  hold_signals();
  base::thread_state.forking = 1;
  lock_session();
  base::thread_state.busy = base::kBusy;
  forking_process = int32_t(getpid());
  heap::lock_arenas();
  lock_marks();
  stacks::lock_modules();
  stacks::lock_rules();
  stacks::lock_tree();
  heap::lock_page_map();
  heap::lock_threads();
  await_fork();
}

void after_fork_parent() {
  bool ends = became_daemon();   // by _exit, inside libc
  heap::unlock_threads();
  heap::unlock_page_map();
  stacks::unlock_tree();
  stacks::unlock_rules();
  stacks::unlock_modules();
  unlock_marks();
  heap::unlock_arenas();
  base::thread_state.busy = 0;
  unlock_session();
  base::thread_state.forking = 0;
  if (ends && own_header()) give_back_unused_tail();
  let_signals_go();
}

bool inside_allocator() { return base::thread_state.busy && !base::thread_state.forking; }

namespace {
// The call that the handler interrupted goes on here, too, once the handler returns: it was the parent's, whose region is shared yet.
void keep_interrupted_call() {
  int saved = errno;
  bool shared = base::store.start && base::header().name.length;
  if (shared && !base::leave_shared_store()) leave_unrecorded();
  errno = saved;
}

void begin_as_child() {
  base::main_thread = &base::thread_state;
  base::reset_ranges_lock();
  heap::reset_mappings_lock();
  heap::reset_nested_lock();
  heap::reset_arenas_lock();
  reset_marks_lock();   // also where no session begins in the child: it may fork, too
  forget_keeper();
  if (inside_allocator()) return keep_interrupted_call();   // a signal handler's fork: what it allocates comes from the nested heap, until it returns
  heap::reset_thread_locks();
  heap::reset_page_map_lock();
  stacks::reset_tree_lock();
  stacks::reset_rules_lock();
  stacks::reset_modules_lock();
  if (!monitor_is_confined()) start_keeper();   // a filter may kill who makes a thread
}
}  // namespace

void after_fork_child() {
  bool forking = base::thread_state.forking;   // else a handler's fork, inside the allocator
  became_daemon();
  if (forking) base::thread_state.busy = 0;
  base::thread_state.forking = 0;
  note_forked_by(forking && getppid() ? forking_process : 0);   // in another pid namespace it has no number here
  begin_as_child();
  if (forking) let_signals_go();
}

namespace {
bool move_to_region_here() {
  base::NoHandlers no_handlers;
  base::InternalScope scope;
  return move_to_region();
}

// A child in its grace gets its region now: later no file may be opened. Not in a vfork child, where all of this is its parent's. Where another thread does
// the same, it waits until nobody is inside of the shim, and makes system calls of its own: it is done when it gives the lock back.
void end_grace() {
  constexpr int kPatience = 1000;   // milliseconds
  for (int i = 0; i < kPatience; i++) {
    uint32_t word = *base::session_word;
    bool ours = word == base::kWiped || ((word == base::kGrace || word == base::kFrozen) && base::header().pid == int32_t(syscall(SYS_getpid)));
    if (!ours || move_to_region_here()) break;
    usleep(1000);
  }
  if (lock_session_within(kPatience)) unlock_session();
}
}  // namespace

void before_chroot() {
  base::NoCancellation guard;
  int saved = errno;
  if (base::store.start && !keeper_of_another_process()) end_grace();   // in a vfork child it would be the parent's
  errno = saved;
}

void note_seccomp() {
  constexpr int kPatience = 10'000;   // tenths of a millisecond
  base::NoCancellation guard;
  int saved = errno;
  if (base::store.start) end_grace();
  heap::confine_mappings();
  base::forbid_kernel_copies();   // in a vfork child the parent's, too: it asks first, then
  if (!keeper_of_another_process()) {   // in a vfork child the flag would be the parent's
    confine_monitor();
    // What is under way may still open a file: the filter comes when it is done. What begins from now on sees the flag.
    for (int i = 0; errand_under_way() && i < kPatience; i++) usleep(100);
  }
  errno = saved;
}

void note_seccomp_refused() {
  heap::unconfine_mappings();
  base::permit_kernel_copies();
  if (!keeper_of_another_process()) unconfine_monitor();
}

void note_deepbind_stripped() {
  if (base::store.start && *base::session_word != base::kInert) base::count(kDeepbindStripped);
}

}  // namespace tidemark::keeper
