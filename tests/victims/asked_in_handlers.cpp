// A signal handler that allocates, or forks, while its thread asks the allocator or tidemark for figures: it holds locks then.
//
//   asked_in_handlers allocate|fork
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <malloc.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

extern "C" void tidemark_shim_mark(const char*) __attribute__((weak));
static bool forks;
static pid_t self;
static volatile int handled;

// Not at an interval: a fork may take longer, and then nothing but the handler would run.
static void once_more() {
  itimerval soon{{0, 0}, {0, 500}};
  setitimer(ITIMER_REAL, &soon, nullptr);
}

static void handler(int) {
  if (getpid() != self) return;
  handled = handled + 1;
  if (!forks) {
    static void* kept[400];   // of all sizes, more than a thread has at hand
    for (int i = 0; i < 400; i++) kept[i] = malloc(size_t(16 + i * 37 % 6000));
    for (void* block : kept) free(block);
  } else if (pid_t child = fork()) {
    waitpid(child, nullptr, 0);
  } else {
    _exit(0);
  }
  once_more();
}

int main(int, char** arguments) {
  forks = strcmp(arguments[1], "fork") == 0;
  self = getpid();
  signal(SIGALRM, handler);
  once_more();
  while (handled < (forks ? 100 : 3000)) {
    for (int i = 0; i < 20; i++) mallinfo2();
    if (forks) malloc_trim(0);   // glibc's own is ended by a handler that allocates
    if (tidemark_shim_mark) tidemark_shim_mark("round");
  }
  return 0;
}
