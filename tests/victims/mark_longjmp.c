// Signal handlers that jump out of tidemark_mark.
#include <setjmp.h>
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

#include "../../preload/tidemark.h"

static sigjmp_buf back;
static volatile int jumps;

static void handler(int number) {
  (void)number;
  jumps++;
  siglongjmp(back, 1);
}

int main(void) {
  struct itimerval often = {{0, 500}, {0, 500}}, never = {{0, 0}, {0, 0}};
  signal(SIGALRM, handler);
  sigsetjmp(back, 1);
  if (jumps == 0) setitimer(ITIMER_REAL, &often, 0);
  while (jumps < 500) tidemark_mark("often");
  setitimer(ITIMER_REAL, &never, 0);
  signal(SIGALRM, SIG_IGN);
  tidemark_mark("last");
  return 0;
}
