// A signal handler that ends the process, as that of SIGTERM does in most daemons, while its thread is inside fork(): both functions may be called from
// handlers; malloc may not, but glibc's works there in a process of one thread. The process is large, so that nearly all of its time is spent there.
//
//   fork_interrupted exit|exec|allocate MICROSECONDS
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static const char* what;

static void allocate(int depth) {   // from stacks that were never seen
  free(malloc(100 + depth));
  if (depth) allocate(depth - 1);
  asm volatile("");
}

static void handler(int) {
  if (!strcmp(what, "allocate")) allocate(20);
  if (!strcmp(what, "exec")) execl("/bin/sh", "sh", "-c", "exit 7", nullptr);
  _exit(7);
}

int main(int, char** arguments) {
  what = arguments[1];
  constexpr size_t kBytes = 64 << 20;
  auto* memory = static_cast<char*>(mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  madvise(memory, kBytes, MADV_NOHUGEPAGE);   // a page table for each 2 MiB, all to be copied
  memset(memory, 1, kBytes);
  signal(SIGALRM, handler);
  itimerval once{{0, 0}, {0, atoi(arguments[2])}};
  setitimer(ITIMER_REAL, &once, nullptr);
  for (;;) {
    pid_t child = fork();
    if (child == 0) _exit(0);
    waitpid(child, nullptr, 0);
  }
}
