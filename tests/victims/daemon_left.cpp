// A signal handler jumps out of daemon() before that has forked; then a child is made, and the process is killed.
#include <csetjmp>
#include <csignal>
#include <cstdlib>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

static sigjmp_buf back;
static volatile bool armed;

int main() {
  free(malloc(100));
  signal(SIGUSR1, [](int) { siglongjmp(back, 1); });
  pthread_atfork([] {
    if (armed) raise(SIGUSR1);
  }, nullptr, nullptr);
  if (sigsetjmp(back, 1) == 0) {
    armed = true;
    daemon(1, 1);
    return 4;
  }
  armed = false;
  pid_t child = fork();
  if (child == 0) _exit(0);
  int status = 1;
  if (waitpid(child, &status, 0) != child || status != 0) return 5;
  kill(getpid(), SIGKILL);
}
