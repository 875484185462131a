// A signal handler that comes while its thread is inside fork(), and ends the process, as that of SIGTERM does in most daemons, or goes on in ways that are
// allowed there in a process of one thread. The process is large, so that nearly all of its time is spent there.
//
//   fork_interrupted exit|exec|allocate|leave|fork|jump MICROSECONDS
#include <csetjmp>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static const char* what;
static sigjmp_buf above;
static pid_t self;
static bool is(const char* name) { return strcmp(what, name) == 0; }

static void allocate(int depth) {   // from stacks that were never seen
  free(malloc(100 + depth));
  if (depth) allocate(depth - 1);
  asm volatile("");
}
static void make_child() {
  pid_t child = fork();
  if (child == 0) _exit(0);
  waitpid(child, nullptr, 0);
}

static void handler(int) {
  if (getpid() != self) return;
  if (is("jump")) siglongjmp(above, 1);
  if (is("allocate")) allocate(20);
  if (is("fork")) make_child();
  if (is("exec")) execl("/bin/sh", "sh", "-c", "exit 7", nullptr);
  if (is("leave")) exit(7);
  _exit(7);
}

int main(int, char** arguments) {
  what = arguments[1];
  self = getpid();
  constexpr size_t kBytes = 64 << 20;
  auto* memory = static_cast<char*>(mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  madvise(memory, kBytes, MADV_NOHUGEPAGE);   // a page table for each 2 MiB, all to be copied
  memset(memory, 1, kBytes);
  atexit(make_child);
  signal(SIGALRM, handler);
  itimerval once{{0, 0}, {0, atoi(arguments[2])}};
  if (sigsetjmp(above, 1)) {
    make_child();
    allocate(20);
    _exit(7);
  }
  setitimer(ITIMER_REAL, &once, nullptr);
  for (;;) make_child();
}
