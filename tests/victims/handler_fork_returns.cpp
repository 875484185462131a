// A signal handler that forks, also where it has interrupted malloc or free, and returns in both: the interrupted call is made twice, once in each process.
// "poor": the children may map no memory to write to; what they map in the handler is nobody else's.
#include <csignal>
#include <cstdlib>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "expect.h"

constexpr int kForks = 300;
static volatile int forks;
static volatile bool is_child;
static bool poor;

static void handler(int) {
  rlimit before;
  getrlimit(RLIMIT_DATA, &before);
  rlimit none{1, before.rlim_max};   // to Linux 0 is no limit (mm/mmap.c, may_expand_vm)
  if (poor) setrlimit(RLIMIT_DATA, &none);
  pid_t child = fork();
  if (child == 0) {
    is_child = true;
    if (poor) munmap(mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 4096);
    return;
  }
  setrlimit(RLIMIT_DATA, &before);
  int status;
  if (waitpid(child, &status, 0) != child || status != 0) _exit(2);
  forks = forks + 1;
}

SITE void* site_often_interrupted() { return keep(malloc(72)); }

int main(int argc, char**) {
  poor = argc > 1;
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
