#include "preload/base/thread_state.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

namespace tidemark::base {
namespace {
constinit uint32_t unstarted = kUnstarted;
}
constinit uint32_t* session_word = &unstarted;
constinit const ThreadState* main_thread = nullptr;
__thread ThreadState thread_state __attribute__((tls_model("initial-exec"), visibility("hidden"))) = {
    .busy = 0, .generation = kNoSession, .owner = kNoOwner, .session = 0, .slot = nullptr, .errno_at = nullptr, .stack_low = 0, .stack_top = 0,
    .last_word = 0, .stack_span = 0, .quick_span = 0, .deferred = nullptr, .victim = 0, .check = 0, .internal = 0, .exiting = 0, .luck = 0, .away = 0, .leaning = 0, .reluctance = 0,
    .path = nullptr, .magazines = nullptr, .stripes = nullptr, .forking = 0, .vfork_child = 0, .stack_lost = 0, .stack_floor = 0, .daemon_call = nullptr, .signals = 0};

TIDEMARK_COLD void wait_while_frozen() {
  int saved = errno;
  timespec limit{0, 10'000'000};
  while (__atomic_load_n(session_word, __ATOMIC_ACQUIRE) == kFrozen)
    syscall(SYS_futex, session_word, FUTEX_WAIT_PRIVATE, kFrozen, &limit, nullptr, 0);
  errno = saved;
}

void enter_busy() {
  for (;;) {
    thread_state.busy = kBusy;
    compiler_barrier();
    if (__atomic_load_n(session_word, __ATOMIC_ACQUIRE) != kFrozen) return;
    thread_state.busy = 0;
    wait_while_frozen();
  }
}
}  // namespace tidemark::base

// For jemalloc_glue.c.
extern "C" __attribute__((visibility("hidden"))) void tidemark_call_as_hook(void (*call)(void*), void* argument) {
  if (!tidemark::base::as_hook([=] { call(argument); })) call(argument);
}
