// Puts a seccomp filter on itself that lets read, write and exit_group pass, and kills for the rest; then writes and ends. 77: no filter can be put.
//
//   strict_filter process|thread exit|fork|breach|mark    what the filter kills; breach: the program itself makes another call; mark: and marks
#include <cstddef>
#include <cstring>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../preload/tidemark.h"

static void confine(unsigned kill) {
  sock_filter steps[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_read, 3, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, kill),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  sock_fprog program{sizeof(steps) / sizeof(*steps), steps};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) _exit(77);
}

int main(int, char** arguments) {
  unsigned kill = strcmp(arguments[1], "thread") == 0 ? SECCOMP_RET_KILL_THREAD : SECCOMP_RET_KILL_PROCESS;
  if (strcmp(arguments[2], "fork") == 0) {
    pid_t child = fork();
    int status = 0;
    if (child && waitpid(child, &status, 0) == child) _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 99);
  }
  bool marks = strcmp(arguments[2], "mark") == 0;
  if (marks) tidemark_mark("before the filter");
  confine(kill);
  if (marks) tidemark_mark("before the filter"), tidemark_mark("behind it");
  if (strcmp(arguments[2], "breach") == 0) getppid();
  if (write(STDOUT_FILENO, "in\n", 3) != 3) _exit(4);
  _exit(3);
}
