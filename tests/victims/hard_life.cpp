// Things that programs do to themselves and that a library in their process must survive. Usage: hard_life MODE
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "expect.h"
#include "wait_region.h"

SITE void* site_first() { return keep(malloc(912)); }
SITE void* site_later() { return keep(malloc(944)); }
SITE void* site_in_thread() { return keep(malloc(976)); }

static void* in_thread(void*) {
  for (int i = 0; i < 100; i++) free(site_in_thread());
  return nullptr;
}
static void live_on() {   // long enough for the keeper to do each of its jobs
  for (int i = 0; i < 12; i++) {
    for (int k = 0; k < 1000; k++) free(site_later());
    sleep_ms(100);
  }
  pthread_t thread;
  if (pthread_create(&thread, nullptr, in_thread, nullptr) == 0) pthread_join(thread, nullptr);
}
static long resident_kb() {
  long pages = 0, resident = 0;
  char text[128] = {};
  int fd = open("/proc/self/statm", O_RDONLY);
  if (fd < 0 || read(fd, text, sizeof text - 1) <= 0) return -1;
  close(fd);
  sscanf(text, "%ld %ld", &pages, &resident);
  return resident * 4;
}
// By the instruction itself, as sandboxes without libc do it: no hook sees it.
static long raw_seccomp(unsigned long operation, unsigned long flags, void* argument) {
  long result;
  asm volatile("syscall" : "=a"(result) : "a"(SYS_seccomp), "D"(operation), "S"(flags), "d"(argument) : "rcx", "r11", "memory");
  return result;
}
static void forbid_open(bool raw) {   // whoever opens a file or a socket from now on, dies
#define KILL(number) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
      KILL(SYS_open),
      KILL(SYS_openat),
      KILL(SYS_openat2),
      KILL(SYS_creat),
      KILL(SYS_memfd_create),
      KILL(SYS_socket),
      KILL(SYS_process_vm_readv),
      KILL(SYS_pipe),
      KILL(SYS_pipe2),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  sock_fprog program = {sizeof filter / sizeof *filter, filter};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) _exit(77);
  long done = raw ? raw_seccomp(1, SECCOMP_FILTER_FLAG_TSYNC, &program) : syscall(SYS_seccomp, 1, SECCOMP_FILTER_FLAG_TSYNC, &program);
  if (done != 0) _exit(77);
}

static void forbid_threads() {
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0), KILL(SYS_open),  KILL(SYS_openat),      KILL(SYS_clone),
      KILL(SYS_clone3),                      KILL(SYS_pread64), KILL(SYS_close_range), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  sock_fprog program = {sizeof filter / sizeof *filter, filter};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || syscall(SYS_seccomp, 1, SECCOMP_FILTER_FLAG_TSYNC, &program) != 0) _exit(77);
}

static void forbid_signal_masks() {
  sock_filter filter[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0), KILL(SYS_rt_sigprocmask), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  sock_fprog program = {sizeof filter / sizeof *filter, filter};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || syscall(SYS_seccomp, 1, SECCOMP_FILTER_FLAG_TSYNC, &program) != 0) _exit(77);
}

int main(int argc, char** argv) {
  const char* mode = argc > 1 ? argv[1] : "";
  auto is = [mode](const char* name) { return strcmp(mode, name) == 0; };
  for (int i = 0; i < 10; i++) site_first();

  if (is("mlockall") || is("mlockall_memory")) {
    if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) return 77;
    live_on();
    if (is("mlockall_memory")) SAY("{\"resident_kb\":%ld}\n", resident_kb());
  } else if (is("seccomp")) {
    forbid_open(false);
    live_on();
  } else if (is("seccomp_refused")) {   // what libseccomp asks to learn what there is, and filters that do not come
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 1, nullptr) != -1 || errno != EINVAL) _exit(77);
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, 1ul) != -1 || errno != EFAULT) _exit(77);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, 1ul) != -1 || errno != EFAULT) _exit(77);
    if (prctl(PR_SET_SECCOMP, 99) != -1 || errno != EINVAL) _exit(77);
    live_on();
  } else if (is("seccomp_at")) {   // after so many milliseconds, and nobody may make a thread or read at an offset either
    sleep_ms(atoi(argv[2]));
    forbid_threads();
    for (int i = 0; i < 4; i++) sleep_ms(50), free(site_later());
  } else if (is("seccomp_mappings")) {   // calls that were made before go on
    for (volatile int i = 0; i < 20; i = i + 1) {
      if (i == 10) forbid_signal_masks();
      munmap(mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 4096);
    }
    _exit(0);
  } else if (is("seccomp_child")) {   // a child that confines itself at once, as privilege separation does
    pid_t pid = fork();
    if (pid == 0) {
      forbid_threads();
      for (int i = 0; i < 6; i++) sleep_ms(50), free(site_later());
      _exit(0);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    SAY("child: %x\n", status);
    expect_region(true, pid);
    live_on();
  } else if (is("seccomp_fork")) {   // a confined process has children
    forbid_open(false);
    pid_t pid = fork();
    if (pid == 0) {
      for (int i = 0; i < 5000; i++) site_later();
      sleep_ms(300);
      _exit(0);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    SAY("child: %x\n", status);
    expect_region(false, pid);
    live_on();
  } else if (is("seccomp_raw")) {
    sleep_ms(500);
    forbid_open(true);
    live_on();
  } else if (is("setuid")) {   // glibc makes every thread of the process change, ours too, by a signal
    if (setgid(65534) != 0 || setuid(65534) != 0) return 77;
    live_on();
  } else if (is("setuid_fork")) {
    if (setgid(65534) != 0 || setuid(65534) != 0) return 77;
    int pid = fork();
    if (pid == 0) {
      for (int i = 0; i < 12; i++) {
        for (int k = 0; k < 1000; k++) free(site_later());
        sleep_ms(20);
      }
      _exit(0);
    }
    waitpid(pid, nullptr, 0);
    expect_region(false, pid);
    live_on();
  } else if (is("raw_mask")) {   // a program that blocks all signals, glibc's own too, and then changes its user
    unsigned long all = ~0ul, old = 0;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &old, 8);
    live_on();
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &old, nullptr, 8);
    if (setuid(65534) != 0) return 77;
  } else if (is("unshare")) {   // fails with EINVAL in a process with more than one thread
    if (unshare(CLONE_NEWUSER) != 0) {
      SAY("unshare: %s\n", strerror(errno));
      return errno == EPERM || errno == ENOSPC ? 77 : 1;
    }
    live_on();
  } else if (is("closefrom")) {
    close_range(3, ~0u, 0);
    int fd = open("/dev/null", O_RDWR);   // takes the number of whatever was open
    if (fd != 3) return 3;
    live_on();
    char zeros[16] = {};
    if (write(fd, zeros, sizeof zeros) != sizeof zeros || fcntl(4, F_GETFD) != -1) return 4;   // nobody opened anything meanwhile
  } else if (is("descriptors")) {   // children whose regions are made while they watch descriptor 3: always free
    for (int i = 0; i < 20; i++) {
      int pid = fork();
      if (pid == 0) {
        for (int k = 0; k < 100000; k++) {
          int fd = dup(0);
          if (fd != 3) _exit(fd < 0 ? 100 : fd);
          close(fd);
        }
        sleep_ms(20);
        _exit(0);
      }
      int status = 0;
      waitpid(pid, &status, 0);
      if (status != 0) {
        SAY("a free descriptor was %d\n", WEXITSTATUS(status));
        return 5;
      }
    }
    live_on();
  } else if (is("low_limits")) {
    rlimit files = {3, 3}, size = {4096, 4096};
    setrlimit(RLIMIT_NOFILE, &files);
    setrlimit(RLIMIT_FSIZE, &size);
    live_on();
  } else if (is("no_memory")) {
    rlimit space = {resident_kb() * 1024ul, resident_kb() * 1024ul};   // no new mapping succeeds
    setrlimit(RLIMIT_AS, &space);
    for (int i = 0; i < 1000; i++) {
      char* p = static_cast<char*>(keep(malloc(10 << 20)));
      if (p) p[0] = p[(10 << 20) - 1] = 1;
      free(p);
    }
    SAY("survived\n");
    return 0;
  } else if (is("chdir_umask")) {
    umask(0777);
    if (chdir("/") != 0) return 2;
    live_on();
  } else {
    return 2;
  }
  expect("site_first", 10, 912, 0);
  expect("site_later", 12000, 944, 12000);
  expect("site_in_thread", 100, 976, 100);
  return 0;
}
