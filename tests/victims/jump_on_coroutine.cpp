// A handler jumps out of the allocator, to the start of a coroutine: on its stack, of which nobody knows where it ends, or back on the thread's own, what
// is allocated later is as before.
#include <csetjmp>
#include <csignal>
#include <cstdlib>
#include <sys/time.h>
#include <ucontext.h>

#include "expect.h"

static ucontext_t host, guest;
static sigjmp_buf start;
static volatile int jumps;

static void handler(int) { siglongjmp(start, 1); }
SITE void* site_later() { return keep(malloc(48)); }

static void coroutine() {
  if (sigsetjmp(start, 1)) jumps = jumps + 1;
  while (jumps < 50) free(keep(malloc(64)));
  itimerval none{};
  setitimer(ITIMER_REAL, &none, nullptr);
}

int main() {
  static char stack[256 << 10];
  getcontext(&guest);
  guest.uc_stack.ss_sp = stack;
  guest.uc_stack.ss_size = sizeof(stack);
  guest.uc_link = &host;
  makecontext(&guest, coroutine, 0);
  signal(SIGALRM, handler);
  itimerval often{{0, 1000}, {0, 1000}};
  setitimer(ITIMER_REAL, &often, nullptr);
  swapcontext(&host, &guest);
  for (int i = 0; i < 1000; i++) free(site_later());
  for (int i = 0; i < 10; i++) site_later();
  return 0;
}
