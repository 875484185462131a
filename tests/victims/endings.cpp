// Ends in the way its argument names, after 10 blocks of a known site and one line on each output.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "expect.h"

SITE void* site_at_the_end() { return keep(malloc(784)); }

static void* last_thread(void*) {
  usleep(50000);
  site_at_the_end();
  return nullptr;
}

static void* quiet_thread(void*) {   // allocates nothing, so that nobody knows of it
  usleep(300000);
  return nullptr;
}

static void* asked_thread(void*) {   // allocates when it is told to, and ends when it is left alone
  char byte;
  while (read(STDIN_FILENO, &byte, 1) == 1) site_at_the_end();
  return nullptr;
}

static void leave_to(void* (*thread_main)(void*)) {   // the process ends with status 0 when that thread does
  pthread_t thread;
  pthread_create(&thread, nullptr, thread_main, nullptr);
  pthread_exit(nullptr);
}

int main(int argc, char** argv) {
  const char* how = argc > 1 ? argv[1] : "return";
  if (strcmp(how, "after_exec") == 0) {
    for (int i = 0; i < 3; i++) site_at_the_end();
    return 6;
  }
  for (int i = 0; i < 10; i++) site_at_the_end();
  printf("to stdout before %s\n", how);   // left in stdio's buffer: only some endings flush it
  fprintf(stderr, "to stderr before %s\n", how);

  if (strcmp(how, "return") == 0) return 2;
  if (strcmp(how, "exit") == 0) exit(3);
  if (strcmp(how, "_exit") == 0) _exit(4);
  if (strcmp(how, "_Exit") == 0) _Exit(14);
  if (strcmp(how, "quick_exit") == 0) quick_exit(5);
  if (strcmp(how, "abort") == 0) abort();
  if (strcmp(how, "terminate") == 0) std::terminate();
  if (strcmp(how, "segv") == 0) *static_cast<volatile int*>(nullptr) = 1;
  if (strcmp(how, "kill") == 0) kill(getpid(), SIGKILL);
  if (strcmp(how, "term") == 0) kill(getpid(), SIGTERM);
  if (strcmp(how, "exit_group") == 0) syscall(SYS_exit_group, 9);
  if (strcmp(how, "pthread_exit") == 0) leave_to(last_thread);
  if (strcmp(how, "quiet_last_thread") == 0) leave_to(quiet_thread);
  if (strcmp(how, "restless_last_thread") == 0) {   // whose exit handler acts for another user
    atexit([] {
      if (prctl(PR_SET_KEEPCAPS, 1) != 0 || seteuid(geteuid()) != 0) _exit(15);
    });
    leave_to(quiet_thread);
  }
  if (strcmp(how, "asked_last_thread") == 0) leave_to(asked_thread);
  if (strcmp(how, "exit_from_thread") == 0) {
    pthread_t thread;
    pthread_create(&thread, nullptr, [](void*) -> void* { exit(11); }, nullptr);
    pthread_join(thread, nullptr);
  }
  if (strcmp(how, "exit_in_atexit") == 0) {
    atexit([] { _exit(12); });
    exit(1);
  }
  if (strcmp(how, "execve") == 0) {
    fflush(stdout);
    execl("/proc/self/exe", argv[0], "after_exec", nullptr);
  }
  if (strcmp(how, "daemon") == 0) {   // its parent ends inside libc
    fflush(stdout);
    if (daemon(1, 0) != 0) return 77;
    return 13;
  }
  if (strcmp(how, "failed_execve") == 0) {   // is not replaced, goes on, ends in its own way
    execl("/does/not/exist", "x", nullptr);
    return 8;
  }
  return 99;
}
