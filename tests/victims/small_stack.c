// Allocates where the stack is small. C, for the C++ library allocates before main does.
//
//   small_stack first   its first allocation, on a stack of 8 KiB
//   small_stack child   a child that allocates a hundred times on a stack of 16 KiB
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

static ucontext_t host, guest;
static int blocks;

static void allocate(void) {
  for (int i = 0; i < blocks; i++) {
    char* volatile block = malloc(100);
    memset(block, 1, 100);
  }
}

/* What lies below cannot be touched. */
static int on_small_stack(size_t bytes, int count) {
  char* area = mmap(NULL, bytes + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (area == MAP_FAILED || mprotect(area, 4096, PROT_NONE) != 0) return 77;
  blocks = count;
  getcontext(&guest);
  guest.uc_stack.ss_sp = area + 4096;
  guest.uc_stack.ss_size = bytes;
  guest.uc_link = &host;
  makecontext(&guest, allocate, 0);
  swapcontext(&host, &guest);
  return 0;
}

int main(int count, char** arguments) {
  if (count == 2 && strcmp(arguments[1], "first") == 0) return on_small_stack(8 << 10, 1);
  pid_t child = fork();
  if (child == 0) _exit(on_small_stack(16 << 10, 100));
  int status;
  return waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : 99;
}
