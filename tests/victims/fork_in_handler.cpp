// A signal handler that forks, as crash handlers do, also where it has interrupted malloc: glibc's allocator lets it pass.
#include <csignal>
#include <cstdlib>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile int forks;

static void handler(int) {
  pid_t child = fork();
  if (child == 0) {
    free(malloc(100));
    execl("/bin/true", "true", nullptr);
    _exit(1);
  }
  int status;
  if (waitpid(child, &status, 0) != child || status != 0) _exit(2);
  forks = forks + 1;
}

int main() {
  signal(SIGALRM, handler);
  itimerval every{{0, 3000}, {0, 3000}};
  setitimer(ITIMER_REAL, &every, nullptr);
  while (forks < 300) {
    for (size_t i = 1; i < 2000; i++) {
      void* blocks[8];
      for (auto& block : blocks) block = malloc(i * 40);
      for (auto* block : blocks) free(block);
    }
  }
  itimerval never{};
  setitimer(ITIMER_REAL, &never, nullptr);
}
