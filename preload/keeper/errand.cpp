#include "preload/keeper/errand.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>

#include "preload/base/thread_state.h"
#include "preload/heap/tracker.h"
#include "preload/keeper/monitor.h"
#include "preload/keeper/own_thread.h"
#include "preload/keeper/rss_ledger.h"
#include "preload/platform/kept_file.h"

#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE 2
#endif

namespace tidemark::keeper {
namespace {

enum State : uint32_t { kIdle = 0, kWanted = 1, kEnd = 2 };
using Work = void (*)();
constinit std::atomic<bool> exists{false}, starting{false};
constinit pthread_t thread{};
constinit bool has_own_table = false;   // the keeper
constinit bool does_errands = false;    // it does them itself, and keeps files
constinit uint32_t state = kIdle, begun = 0;   // futexes; begun: see wait_until_begun in keeper.cpp
constinit Work errand = nullptr, idle_call = nullptr;

uint32_t present_state() { return __atomic_load_n(&state, __ATOMIC_SEQ_CST); }
void become(uint32_t next) {
  __atomic_store_n(&state, next, __ATOMIC_SEQ_CST);   // then `confined` is read (monitor.cpp): whoever sets that looks at this next
  syscall(SYS_futex, &state, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
}
void wait_while(uint32_t value) {
  while (present_state() == value) syscall(SYS_futex, &state, FUTEX_WAIT_PRIVATE, value, nullptr, nullptr, 0);
}

// false: the table is still the program's.
bool take_own_table() { return syscall(SYS_close_range, 0, ~0u, CLOSE_RANGE_UNSHARE) == 0; }

bool begin() {
  base::be_internal();
  prctl(PR_SET_NAME, "tidemark");
  return take_own_table();
}

void* errand_main(void*) {
  platform::begin_kept_files(begin());
  __atomic_store_n(&begun, 1, __ATOMIC_RELEASE);
  syscall(SYS_futex, &begun, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
  heap::learn_thread_layout();
  note_own_stack(1);
  for (;;) {
    wait_while(kIdle);
    if (present_state() == kEnd) return nullptr;
    errand();
    become(kIdle);
    if (idle_call) idle_call();
  }
}

struct Call {
  void (*work)(void*);
  void* argument;
};
void* call_main(void* call) {
  begin();
  auto* c = static_cast<Call*>(call);
  c->work(c->argument);
  return nullptr;
}
}  // namespace

void set_idle_call(void (*when_idle)()) { idle_call = when_idle; }

void make_errand_thread() {
  state = kIdle;
  begun = 0;
  exists = make_thread(thread, errand_main, nullptr);
  while (exists && !__atomic_load_n(&begun, __ATOMIC_ACQUIRE)) syscall(SYS_futex, &begun, FUTEX_WAIT_PRIVATE, 0, nullptr, nullptr, 0);
}

// `starting` before the question whether we are confined, as the program confines us before it asks whether an errand is under way: one of
// the two sees the other.
bool start_errand(void (*work)()) {
  starting = true;
  errand = work;
  bool confined = monitor_is_confined();   // a seccomp filter may kill who makes a thread
  bool may_make = !exists && !confined && !heap::foreign();
  if (may_make) make_errand_thread();
  bool here = !exists && (confined || has_own_table);   // a limit on processes may let nobody make one
  if (exists) become(kWanted);
  if (here && may_make && !does_errands) platform::begin_kept_files(does_errands = true);
  if (here) work();   // it is under way until it is done
  starting = false;
  return exists || here;
}

void leave_program_table() {
  starting = true;   // as in start_errand
  if (!monitor_is_confined()) has_own_table = take_own_table();
  starting = false;
}

bool errand_under_way() { return starting || (exists && present_state() == kWanted); }
bool errand_thread_exists() { return exists; }

void end_errands() {
  if (!exists) return;
  wait_while(kWanted);
  become(kEnd);
  pthread_join(thread, nullptr);
  exists = false;
}
void forget_own_table() { has_own_table = does_errands = false; }

void forget_errands() { exists = starting = has_own_table = does_errands = false; }

void run_in_own_table(void (*work)(void*), void* argument) {
  Call call{work, argument};
  pthread_t t;
  if (make_thread(t, call_main, &call)) pthread_join(t, nullptr);
  else work(argument);
}

}  // namespace tidemark::keeper
