// A thread that allocates and then ends without a word: by a system call of its own, or killed alone by a filter. Its stack is unmapped. Then says so,
// and waits for the end of its input.
//
//   vanished_thread exit|killed
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <pthread.h>
#include <unistd.h>

#include "killed_thread.h"

static bool killed;

static void* vanish(void*) {
  for (int i = 0; i < 100; i++) {
    char* volatile block = static_cast<char*>(malloc(100));
    block[0] = 1;
    free(block);
  }
  if (killed && !be_killed_by_getppid()) exit(77);
  killed ? syscall(SYS_getppid) : syscall(SYS_exit, 0);
  exit(3);
}

int main(int, char** arguments) {
  killed = strcmp(arguments[1], "killed") == 0;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 64 << 20);   // more than glibc keeps for the next thread
  pthread_t thread;
  if (pthread_create(&thread, &attributes, vanish, nullptr) != 0) return 77;
  pthread_join(thread, nullptr);
  puts("vanished");
  fflush(stdout);
  while (getchar() != EOF) {}
  return 0;
}
