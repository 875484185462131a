// One way for a process to end or to become another program; the first argument names it. The last one printed line and the exit
// status must be the same with and without the shim.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char* arguments[] = {"sh", "-c", "echo \"$0 $1 $VALUE\"; exit 7", "zero", "one", NULL};
static char* environment[] = {"VALUE=given", "PATH=/usr/bin:/bin", NULL};
#define LIST "sh", "-c", "echo \"$0 $1 $VALUE\"; exit 7", "zero", "one"

static void on_normal_exit(void) { (void)!write(1, "atexit\n", 7); }
static void on_quick_exit(void) { (void)!write(1, "at_quick_exit\n", 14); }

static void become(const char* how) {
  const int shell = open("/bin/sh", O_RDONLY | O_CLOEXEC);
  if (!strcmp(how, "execve")) execve("/bin/sh", arguments, environment);
  if (!strcmp(how, "execv")) execv("/bin/sh", arguments);
  if (!strcmp(how, "execvp")) execvp("sh", arguments);
  if (!strcmp(how, "execvpe")) execvpe("sh", arguments, environment);
  if (!strcmp(how, "execl")) execl("/bin/sh", LIST, (char*)NULL);
  if (!strcmp(how, "execlp")) execlp("sh", LIST, (char*)NULL);
  if (!strcmp(how, "execle")) execle("/bin/sh", LIST, (char*)NULL, environment);
  if (!strcmp(how, "fexecve")) fexecve(shell, arguments, environment);
  if (!strcmp(how, "execveat")) execveat(shell, "", arguments, environment, AT_EMPTY_PATH);
}

static void fail_to_become(void) {
  static const char* ways[] = {"execve", "execv", "execvp", "execvpe", "execl", "execlp", "execle", "fexecve", "execveat"};
  const int folder = open("/", O_RDONLY | O_CLOEXEC);
  for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
    errno = 0;
    int result = 0;
    if (i == 0) result = execve("/nowhere", arguments, environment);
    if (i == 1) result = execv("/", arguments);
    if (i == 2) result = execvp("no-such-program", arguments);
    if (i == 3) result = execvpe("no-such-program", arguments, environment);
    if (i == 4) result = execl("/nowhere", "nowhere", (char*)NULL);
    if (i == 5) result = execlp("no-such-program", "nowhere", (char*)NULL);
    if (i == 6) result = execle("/nowhere", "nowhere", (char*)NULL, environment);
    if (i == 7) result = fexecve(folder, arguments, environment);
    if (i == 8) result = execveat(-1, "nowhere", arguments, environment, 0);
    printf("%s: %d %s\n", ways[i], result, strerrorname_np(errno));
  }
}

int main(int count, char** argument) {
  const char* how = count > 1 ? argument[1] : "return";
  setenv("VALUE", "inherited", 1);
  setvbuf(stdout, NULL, _IONBF, 0);
  atexit(on_normal_exit);
  at_quick_exit(on_quick_exit);
  if (!strncmp(how, "vfork-", 6)) {
    const pid_t child = vfork();
    if (child == 0) {
      become(how + 6);
      _exit(99);
    }
    int status;
    waitpid(child, &status, 0);
    printf("child: %d\n", WEXITSTATUS(status));
    return 5;
  }
  if (!strcmp(how, "exit")) exit(3);
  if (!strcmp(how, "_exit")) _exit(4);
  if (!strcmp(how, "_Exit")) _Exit(5);
  if (!strcmp(how, "quick_exit")) quick_exit(6);
  if (!strcmp(how, "fail")) fail_to_become();
  become(how);
  return 2;
}
