// A thread that allocates and then ends without a word: by a system call of its own, or killed alone by a filter. Its stack is unmapped. Then says so,
// and waits for the end of its input.
//
//   vanished_thread exit|killed
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool killed;

static void confine() {
  sock_filter steps[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_THREAD),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  sock_fprog program{sizeof(steps) / sizeof(*steps), steps};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) exit(77);
}

static void* vanish(void*) {
  for (int i = 0; i < 100; i++) {
    char* volatile block = static_cast<char*>(malloc(100));
    block[0] = 1;
    free(block);
  }
  if (killed) confine();
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
