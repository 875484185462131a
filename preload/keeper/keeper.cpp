#include "preload/keeper/keeper.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cstring>

#include "preload/base/jemalloc.h"
#include "preload/base/memory.h"
#include "preload/base/store.h"
#include "preload/base/thread_state.h"
#include "preload/heap/session.h"
#include "preload/heap/tracker.h"
#include "preload/keeper/ageing.h"
#include "preload/keeper/errand.h"
#include "preload/keeper/mail.h"
#include "preload/keeper/monitor.h"
#include "preload/keeper/own_thread.h"
#include "preload/keeper/run.h"
#include "preload/keeper/process_events.h"
#include "preload/keeper/rss_ledger.h"
#include "preload/keeper/session.h"
#include "preload/platform/procfs.h"
#include "preload/stacks/module_reading.h"
#include "preload/stacks/modules.h"

namespace tidemark::keeper {
using namespace format;
namespace {

constexpr int64_t kRetryMoveNs = 100'000'000;

enum State : uint32_t { kStopped = 0, kRunning = 1, kStopping = 2, kEnded = 3 };   // ended: not joined yet
constinit uint32_t state = kStopped;   // a futex
constinit int64_t grace_end = 0;       // CLOCK_MONOTONIC; 0: no keeper was wanted yet
constinit pthread_t thread{};
constinit pid_t keeper_process = 0, keeper_tid = 0;

bool stopping() { return __atomic_load_n(&state, __ATOMIC_ACQUIRE) == kStopping; }

// What the keeper sleeps on: a word that others may raise to wake it. Of a recorded process, the mailbox's doorbell, which other processes
// reach; else one of our own. Where the process changes from one to the other meanwhile, a wake may come a tick late.
constinit uint32_t own_bell = 0;
uint32_t* bell() { return recording() ? &base::header().mailbox.doorbell : &own_bell; }

void ring() {
  uint32_t* at = bell();
  __atomic_add_fetch(at, 1, __ATOMIC_ACQ_REL);
  syscall(SYS_futex, at, FUTEX_WAKE, INT32_MAX, nullptr, nullptr, 0);
}

bool mail_can_be_served() { return mail_waits() && !errand_under_way(); }

// Sleeps until a point of CLOCK_MONOTONIC, or until there is something to look at.
void sleep_until(int64_t when) {
  for (;;) {
    uint32_t* at = bell();
    uint32_t seen = __atomic_load_n(at, __ATOMIC_ACQUIRE);
    if (stopping() || mail_can_be_served() || platform::monotonic_ns() >= when) return;
    timespec t{when / 1'000'000'000, when % 1'000'000'000};
    // FUTEX_WAIT_BITSET takes an absolute time. Not private: the doorbell's file is shared.
    syscall(SYS_futex, at, FUTEX_WAIT_BITSET, seen, &t, nullptr, FUTEX_BITSET_MATCH_ANY);
  }
}

bool active() {
  uint32_t word = *base::session_word;
  return word == base::kGrace || word == base::kFrozen || word == heap::session_serial;   // frozen: a snapshot is being taken
}

void advance_time(int64_t now) {
  Header& h = base::header();
  __atomic_store_n(&h.tick, uint32_t((now - h.started_monotonic_ns) / kTickNs), __ATOMIC_RELAXED);
  h.heartbeat_monotonic_ns = now;
  h.heartbeat_realtime_ns = platform::realtime_ns();
}

void raise_total_peak() {
  int64_t live = heap::total_live();
  if (live > 0) heap::raise(base::header().peak_live_bytes, uint64_t(live));
}

void tick(int64_t now, uint64_t beat) {
  advance_time(now);
  if (*base::session_word != heap::session_serial) return;
  raise_total_peak();
  if (beat % kTicksPerSecond == 0) {
    if (!monitor_is_confined()) stacks::complete_modules();
    stacks::forget_lost_closers();
    age_blocks();
  }
  monitor(now);
}

// Threads that have allocated in this session. A child of fork that never did has none to tell of.
uint32_t threads_known() { return *base::session_word == base::kWiped ? 0 : base::header().threads_now; }

// Whether no thread of the program lives but the main one, or its zombie.
bool only_ours_live() {
  struct stat s;
  return stat("/proc/self/task", &s) == 0 && s.st_nlink == (errand_thread_exists() ? 5 : 4);   // 2 + threads
}

// Whether the program's threads are all gone, without the last one having told of it, for it never allocated in this process: the main one has left by
// pthread_exit and is a zombie that waits for us. glibc ends the process when its last thread returns: then we must not be that one for ever.
bool alone() { return !threads_known() && only_ours_live() && platform::main_thread_has_ended(); }

// glibc's struct pthread has the thread's number, which the kernel sets to 0 when that ends (nptl/descr.h, set_tid_address(2)). Where, its versions differ: it is
// looked for in the main thread, before that may end, and must be there in the keeper, too.
constinit uint32_t tid_at = 0;   // bytes from the thread pointer; 0: not known
int32_t number_at(address thread, uint32_t at) { return __atomic_load_n(reinterpret_cast<const int32_t*>(thread + at), __ATOMIC_RELAXED); }
address own_thread_pointer() { return reinterpret_cast<address>(__builtin_thread_pointer()); }
address main_thread_pointer() {
  const base::ThreadState* own = &base::thread_state;
  asm("" : "+r"(own));   // else its place is taken from the thread pointer in a way that linkers don't relax
  return own_thread_pointer() + (reinterpret_cast<address>(base::main_thread) - reinterpret_cast<address>(own));
}
void look_for_tid(int32_t own) {
  constexpr uint32_t kFrom = 0x200, kTo = 0x600;
  for (uint32_t at = kFrom; at < kTo && !tid_at; at += sizeof(own))
    if (number_at(own_thread_pointer(), at) == own) tid_at = at;
}
void confirm_tid(int32_t own) {
  if (tid_at && number_at(own_thread_pointer(), tid_at) != own) tid_at = 0;
}

// The last thread that is known is the main one, which ended without a word: by a bare exit(2), or killed alone, by a filter that may kill who asks the kernel.
bool main_thread_vanished() {
  return tid_at && threads_known() == 1 && base::main_thread->slot && number_at(main_thread_pointer(), tid_at) == 0;
}

// Whether there are threads besides the calling one and the main one's zombie; the keeper is not there.
bool others_live() {
  struct stat s;
  bool main = syscall(SYS_gettid) == syscall(SYS_getpid);
  return stat("/proc/self/task", &s) == 0 && s.st_nlink > (main ? 3u : 4u);   // 2 + threads
}

// The main thread was killed alone (SECCOMP_RET_KILL_THREAD), or left by a bare exit(2): without us that would have been the process's status. What the last
// thread ends with is.
void end_with_status(int status) {
  if (int number = WTERMSIG(status)) {
    sigset_t only;
    sigemptyset(&only);
    sigaddset(&only, number);
    signal(number, SIG_DFL);
    pthread_sigmask(SIG_UNBLOCK, &only, nullptr);
    syscall(SYS_tgkill, syscall(SYS_getpid), syscall(SYS_gettid), number);
  }
  syscall(SYS_exit, WEXITSTATUS(status));
}

// As the program's last thread would: the exit handlers that follow are the program's.
void* end_as_last_thread() {
  if (int status = platform::main_thread_status()) end_with_status(status);
  base::ThreadState& t = base::thread_state;
  t.busy = 0;
  t.internal = 0;
  sigset_t none;
  sigemptyset(&none);
  pthread_sigmask(SIG_SETMASK, &none, nullptr);
  return nullptr;
}

bool move_in_own_table() {
  bool done = false;
  run_in_own_table([](void* moved) { *static_cast<bool*>(moved) = move_to_region(); }, &done);
  return done;
}

// true: the program's threads are all gone.
bool run_grace() {
  int64_t end = grace_end;
  auto in_grace = [] {   // allocations may end it before; frozen: that is being tried
    uint32_t word = *base::session_word;
    return word == base::kGrace || word == base::kWiped || word == base::kFrozen;
  };
  while (!stopping() && in_grace() && platform::monotonic_ns() < end) {
    int64_t now = platform::monotonic_ns();
    if (*base::session_word == base::kGrace) advance_time(now);
    sleep_until(now + kTickNs < end ? now + kTickNs : end);
    if (alone()) return true;
  }
  while (!stopping() && in_grace() && !move_in_own_table())
    sleep_until(platform::monotonic_ns() + kRetryMoveNs);
  return false;
}

// What is behind this takes no lock of ours and asks nobody.
void tell_end() {
  uint32_t was = kRunning;
  __atomic_compare_exchange_n(&state, &was, kEnded, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);   // by itself
  if (was == kStopping) __atomic_store_n(&state, kEnded, __ATOMIC_RELEASE);
  syscall(SYS_futex, &state, FUTEX_WAKE_PRIVATE, INT32_MAX, nullptr, nullptr, 0);
}

// True: as the last thread of all.
bool keep() {
  if (prctl(PR_GET_SECCOMP) == 0) base::allow_kernel_copies();   // before who waits for us goes on
  __atomic_store_n(&keeper_tid, pid_t(syscall(SYS_gettid)), __ATOMIC_RELEASE);
  syscall(SYS_futex, &keeper_tid, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
  keep_name();
  prctl(PR_SET_NAME, "tidemark");
  forget_own_table();
  heap::learn_thread_layout();
  confirm_tid(keeper_tid);
  note_own_stack(0);
  set_idle_call(ring);   // a request may have come meanwhile
  if (run_grace()) return true;
  int64_t next = platform::monotonic_ns();
  bool in_own_table = false;
  for (uint64_t beat = 0; !stopping() && active(); beat++) {
    next += kTickNs;
    int64_t now = platform::monotonic_ns();
    if (next < now) next = now;   // suspended: no burst of ticks afterwards
    do {
      sleep_until(next);
      // Not before: exit handlers that the keeper may have to run need the program's table. From now on there is a thread that will stop it. But before any
      // mail: where no thread can be made, the keeper answers itself, from its own table.
      if (!in_own_table && threads_known()) leave_program_table(), in_own_table = true;
      if (mail_can_be_served()) serve_mail();
    } while (!stopping() && platform::monotonic_ns() < next);
    tick(platform::monotonic_ns(), beat);
    if (main_thread_vanished()) {
      stop_monitor();
      // No exit handler would run without us; and whom a filter may kill for asking is of no use any more.
      if (only_ours_live()) end_with_status(platform::main_thread_status());
    }
    if (alone()) {
      stop_monitor();
      return true;
    }
  }
  stop_monitor();
  return false;
}

void* keeper_main(void*) {
  base::be_internal();
  bool last = keep();
  if (!last || stopping()) tell_end();
  return last ? end_as_last_thread() : nullptr;
}
}  // namespace

namespace {
// Several threads may want to start or stop it at once. Signals wait meanwhile: a handler may change the user, too.
constinit pthread_mutex_t lifecycle = PTHREAD_MUTEX_INITIALIZER;
constinit uint32_t suspensions = 0;   // calls of without_keeper under way
constinit bool wanted_again = false;  // when the last of them is over

class LifecycleGuard {
 public:
  LifecycleGuard() { tmje_mutex_lock(&lifecycle); }   // libc's own, see jemalloc_glue.c
  ~LifecycleGuard() { tmje_mutex_unlock(&lifecycle); }
  LifecycleGuard(const LifecycleGuard&) = delete;
  LifecycleGuard& operator=(const LifecycleGuard&) = delete;

 private:
  base::NoCancellation no_cancellation_;
  base::NoHandlers no_handlers_;
};

// Until then glibc holds the thread for one that has not begun: in a child of a bare clone, which has the list of threads but not the threads, a change
// of user would wait for it for ever (nptl/nptl_setxid.c).
void wait_until_begun() {
  while (!__atomic_load_n(&keeper_tid, __ATOMIC_ACQUIRE)) syscall(SYS_futex, &keeper_tid, FUTEX_WAIT_PRIVATE, 0, nullptr, nullptr, 0);
}

// No thread may be made: by a limit, or behind unshare(CLONE_NEWPID).
void no_keeper() {
  __atomic_store_n(&state, kStopped, __ATOMIC_RELEASE);
  heap::grace_end_ns = grace_end;
  heap::without_keeper = true;
  base::thread_state.generation = base::kNoSession;   // of a thread that goes on: it looks at the clock
  if (*base::session_word != base::kWiped) base::count(kKeeperMissing);   // else by move_into: this is the parent's header
}

void begin_keeper() {
  // A program with an allocator of its own shows us nothing to keep, and Chromium's zygote refuses to run beside a second thread.
  if (heap::foreign() && base::header().origin != uint32_t(Origin::kLaunched)) return;
  if (__atomic_load_n(&state, __ATOMIC_ACQUIRE) != kStopped || *base::session_word == base::kInert) return;
  base::InternalScope scope;
  keeper_process = getpid();
  if (base::is_main_thread()) look_for_tid(keeper_process);
  note_keeper_begun();
  heap::grace_end_ns = 0;
  heap::without_keeper = false;
  if (!grace_end) grace_end = platform::monotonic_ns() + int64_t(options.child_grace) * 1'000'000;   // however often it is started
  keeper_tid = 0;
  __atomic_store_n(&state, kRunning, __ATOMIC_RELEASE);
  if (heap::foreign() && !errand_thread_exists()) make_errand_thread();
  if (make_thread(thread, keeper_main, nullptr)) return wait_until_begun();
  end_errands();
  no_keeper();
}

// Who waits is not inside of the shim: the keeper may have to wait itself until nobody is.
void wait_until_ended() {
  uint32_t now;
  while ((now = __atomic_load_n(&state, __ATOMIC_ACQUIRE)) == kStopping) syscall(SYS_futex, &state, FUTEX_WAIT_PRIVATE, now, nullptr, nullptr, 0);
}

void end_keeper() {
  if (keeper_process != getpid() || __atomic_load_n(&state, __ATOMIC_ACQUIRE) == kStopped) return;
  if (pthread_equal(thread, pthread_self())) return __atomic_store_n(&state, kStopped, __ATOMIC_RELEASE);   // it is the program's last thread by now
  uint32_t was = kRunning;
  if (__atomic_compare_exchange_n(&state, &was, kStopping, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) ring();
  wait_until_ended();
  base::InternalScope scope;
  pthread_join(thread, nullptr);
  __atomic_store_n(&state, kStopped, __ATOMIC_RELEASE);
}
}  // namespace

void start_keeper() {
  LifecycleGuard guard;
  if (suspensions) wanted_again = true;
  else begin_keeper();
}

void stop_keeper() {
  LifecycleGuard guard;
  end_keeper();
}

void stop_keeper_for_good() {
  LifecycleGuard guard;
  end_keeper();
  base::count(kKeeperMissing);
  heap::without_keeper = true;   // from here on the program's own calls let the tick go on
  heap::for_each_thread([](base::ThreadState& t) { __atomic_store_n(&t.generation, base::kNoSession, __ATOMIC_RELAXED); });
}

int without_keeper(int (*call)(void*), void* argument) {
  {
    LifecycleGuard guard;
    suspensions++;
    if (keeper_is_running()) end_keeper(), wanted_again = true;
  }
  int result = call(argument), saved = errno;
  {
    LifecycleGuard guard;
    bool again = !--suspensions && wanted_again && !keeper_of_another_process();
    if (again) wanted_again = false, begin_keeper();
  }
  errno = saved;
  return result;
}

void stop_if_last() {
  if (__atomic_load_n(&state, __ATOMIC_ACQUIRE) != kRunning || threads_known()) return;
  stop_keeper();
  if (!monitor_is_confined() && others_live()) start_keeper();   // a filter may kill who makes a thread
}

void forget_keeper() {
  lifecycle = PTHREAD_MUTEX_INITIALIZER;
  suspensions = 0;
  wanted_again = false;
  state = kStopped;
  grace_end = 0;
  forget_monitor();
}
bool keeper_of_another_process() { return keeper_process && keeper_process != getpid(); }
uint32_t own_threads() { return keeper_is_running() ? 1 + errand_thread_exists() : 0; }
bool keeper_is_running() { return __atomic_load_n(&state, __ATOMIC_ACQUIRE) == kRunning && keeper_process == getpid(); }

bool keeper_has_same_capabilities() {
  struct Header {
    uint32_t version;
    int pid;
  };
  constexpr uint32_t kVersion3 = 0x20080522;   // linux/capability.h
  uint32_t ours[6]{}, its[6]{};
  Header self{kVersion3, 0}, keeper{kVersion3, __atomic_load_n(&keeper_tid, __ATOMIC_ACQUIRE)};
  int saved = errno;
  bool same = keeper.pid && syscall(SYS_capget, &self, ours) == 0 && syscall(SYS_capget, &keeper, its) == 0 &&
              memcmp(ours, its, sizeof(ours)) == 0 && prctl(PR_GET_KEEPCAPS) == 0;
  errno = saved;
  return same;
}

}  // namespace tidemark::keeper
