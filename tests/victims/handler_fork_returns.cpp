// A signal handler that forks, also where it has interrupted malloc or free, and returns in both: the interrupted call is made twice, once in each process.
#include <csignal>
#include <cstdlib>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "expect.h"

constexpr int kForks = 300;
static volatile int forks;
static volatile bool is_child;

static void handler(int) {
  pid_t child = fork();
  if (child == 0) {
    is_child = true;
    return;
  }
  int status;
  if (waitpid(child, &status, 0) != child || status != 0) _exit(2);
  forks = forks + 1;
}

SITE void* site_often_interrupted() { return keep(malloc(72)); }

int main() {
  signal(SIGALRM, handler);
  itimerval every{{0, 2000}, {0, 2000}}, never{};
  setitimer(ITIMER_REAL, &every, nullptr);
  long calls = 0;
  for (; forks < kForks; calls++) {
    free(site_often_interrupted());
    if (is_child) _exit(0);
  }
  setitimer(ITIMER_REAL, &never, nullptr);
  expect("site_often_interrupted", calls, 72, calls);
}
