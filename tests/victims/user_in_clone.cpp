// Children of a bare clone(2) that change their user, as sandboxes' do: glibc repeats that on all threads it has on its list, which is their parent's.
// A change of user with capabilities of its own before each, for which the shim's thread makes room and comes back. 77: not root.
#include <csignal>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static int child(void*) {
  if (seteuid(0) != 0) _exit(1);
  _exit(0);
}

int main() {
  static char stack[64 << 10];
  if (geteuid() != 0) return 77;
  for (int i = 0; i < 200; i++) {
    prctl(PR_SET_KEEPCAPS, 1);
    if (seteuid(0) != 0) return 2;
    pid_t pid = clone(child, stack + sizeof(stack), SIGCHLD, nullptr);
    int status;
    if (waitpid(pid, &status, 0) != pid || status != 0) return 3;
  }
}
