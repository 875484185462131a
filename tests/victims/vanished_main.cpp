// Its only thread ends without a word, once it has allocated: by a system call of its own, or killed alone by a filter.
//
//   vanished_main exit|killed
#include <cstdlib>
#include <cstring>
#include <unistd.h>

#include "killed_thread.h"

int main(int, char** arguments) {
  char* volatile block = static_cast<char*>(malloc(100));
  block[0] = 1;
  if (strcmp(arguments[1], "exit") == 0) syscall(SYS_exit, 7);
  if (!be_killed_by_getppid()) return 77;
  syscall(SYS_getppid);
}
