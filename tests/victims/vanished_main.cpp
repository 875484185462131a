// Its main thread ends without a word, once it has allocated: by a system call of its own, or killed alone by a filter. With `worker` another thread, which never
// allocates, goes on and ends the process.
//
//   vanished_main exit|killed [worker]
#include <cstdlib>
#include <cstring>
#include <pthread.h>
#include <unistd.h>

#include "killed_thread.h"

static void* work(void*) {
  for (int i = 0; i < 100; i++) usleep(5000);
  _exit(5);
}

int main(int count, char** arguments) {
  char* volatile block = static_cast<char*>(malloc(100));
  block[0] = 1;
  pthread_t thread;
  if (count > 2 && pthread_create(&thread, nullptr, work, nullptr) != 0) return 77;
  if (strcmp(arguments[1], "exit") == 0) syscall(SYS_exit, 7);
  if (!be_killed_by_getppid()) return 77;
  syscall(SYS_getppid);
}
