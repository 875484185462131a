// fork and its relatives. The first argument says how the child comes to be and what it does; each process prints its own table
// and whether it must have a region. Sites are called under their own names by parent and child alike.
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "expect.h"
#include "wait_region.h"

extern char** environ;

SITE void* site_before_fork() { return keep(malloc(592)); }
SITE void* site_in_child() { return keep(malloc(624)); }
SITE void* site_in_child_later() { return keep(malloc(656)); }
SITE void* site_in_grandchild() { return keep(malloc(688)); }
SITE void* site_in_parent_later() { return keep(malloc(720)); }
SITE void* site_by_neighbour() { return keep(malloc(752)); }

static void* inherited[100];

static void finish(int pid) {
  int status = 0;
  if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 7) {
    dprintf(2, "child %d ended with status %x\n", pid, status);
    _exit(9);
  }
}
static void parent_goes_on() {
  for (int i = 0; i < 30; i++) site_in_parent_later();
  expect("site_before_fork", 100, 592, 0);   // whatever the child freed
  expect("site_in_parent_later", 30, 720, 0);
  expect("site_in_child", 0, 0, 0);
  expect_region(true);
}

// A child that goes on without exec.
[[noreturn]] static void child_lives() {
  void* own[50];
  for (auto& block : own) block = site_in_child();
  for (int i = 0; i < 10; i++) free(own[i]);
  for (int i = 0; i < 40; i++) free(inherited[i]);   // before it has a region
  wait_for_own_region();
  for (int i = 10; i < 15; i++) free(own[i]);
  for (int i = 40; i < 60; i++) free(inherited[i]);   // and after
  for (int i = 0; i < 25; i++) site_in_child_later();
  expect("site_before_fork", 0, 0, 0);
  expect_inherited("site_before_fork", 40, 592);
  expect("site_in_child", 50, 624, 15);
  expect("site_in_child_later", 25, 656, 0);
  expect_region(true);
  _exit(7);
}

static void fork_lives() {
  int pid = fork();
  if (pid == 0) child_lives();
  finish(pid);
  parent_goes_on();
}

static void fork_idle() {   // never allocates, never frees
  int pid = fork();
  if (pid == 0) {
    sleep_ms(300);
    wait_for_own_region();
    expect_inherited("site_before_fork", 100, 592);
    expect_region(true);
    _exit(7);
  }
  finish(pid);
  parent_goes_on();
}

static void fork_exec() {   // at once: the child and the program it becomes are gone before their grace is over
  for (int i = 0; i < 20; i++) {
    int pid = fork();
    if (pid == 0) {
      execl("/bin/sh", "sh", "-c", "exit 7", nullptr);
      _exit(9);
    }
    expect_region(false, pid);
    finish(pid);
  }
  parent_goes_on();
}

static void fork_short() {   // allocates, frees what it inherited, ends
  for (int i = 0; i < 20; i++) {
    int pid = fork();
    if (pid == 0) {
      site_in_child();
      for (auto* block : inherited) free(block);
      _exit(7);
    }
    expect_region(false, pid);
    finish(pid);
  }
  parent_goes_on();
}

static void fork_tree() {   // child and grandchild live at the same time, each with blocks of its elders
  int pid = fork();
  if (pid == 0) {
    void* own[10];
    for (auto& block : own) block = site_in_child();
    wait_for_own_region();
    int grandchild = fork();
    if (grandchild == 0) {
      free(own[0]);
      free(inherited[0]);
      wait_for_own_region();
      for (int i = 0; i < 5; i++) site_in_grandchild();
      free(own[1]);
      expect_inherited("site_before_fork", 99, 592);
      expect_inherited("site_in_child", 8, 624);
      expect("site_in_grandchild", 5, 688, 0);
      expect_region(true);
      _exit(7);
    }
    finish(grandchild);
    expect("site_in_child", 10, 624, 0);
    expect_inherited("site_before_fork", 100, 592);
    expect_region(true);
    _exit(7);
  }
  finish(pid);
  parent_goes_on();
}

static void fork_in_grace() {   // the grandchild is born before the child has its region
  int pid = fork();
  if (pid == 0) {
    void* own = site_in_child();
    int grandchild = fork();
    if (grandchild == 0) {
      site_in_grandchild();
      free(own);
      wait_for_own_region();
      expect_inherited("site_before_fork", 100, 592);
      expect_inherited("site_in_child", 0, 0);
      expect("site_in_grandchild", 1, 688, 0);
      expect_region(true);
      _exit(7);
    }
    wait_for_own_region();
    finish(grandchild);
    expect("site_in_child", 1, 624, 0);
    expect_region(true);
    _exit(7);
  }
  finish(pid);
  parent_goes_on();
}

static volatile bool neighbours_stop;
SITE void* neighbour(void*) {
  while (!neighbours_stop) free(site_by_neighbour());
  return nullptr;
}
static void fork_threads() {   // other threads allocate while the fork happens: the child must neither hang nor miscount
  pthread_t threads[3];
  for (auto& thread : threads) pthread_create(&thread, nullptr, neighbour, nullptr);
  for (int i = 0; i < 30; i++) {
    int pid = fork();
    if (pid == 0) {
      for (int k = 0; k < 1000; k++) free(site_in_child());
      _exit(7);
    }
    finish(pid);
  }
  int pid = fork();
  if (pid == 0) child_lives();
  finish(pid);
  neighbours_stop = true;
  for (auto thread : threads) pthread_join(thread, nullptr);
  parent_goes_on();
}

// A thread forks; in the child it is alone, and its function returns: the process ends with status 0, as glibc does it when the
// last thread ends.
static bool forker_waits;
SITE void* forker(void*) {
  int pid = fork();
  if (pid == 0) {
    site_in_child();
    if (forker_waits) {
      wait_for_own_region();
      expect("site_in_child", 1, 624, 0);
      expect_region(true);
    }
    return nullptr;
  }
  int status = 0;
  if (waitpid(pid, &status, 0) != pid || status != 0) _exit(9);
  return nullptr;
}
static void fork_in_thread() {
  for (int i = 0; i < 10; i++) {
    forker_waits = i == 9;
    pthread_t thread;
    pthread_create(&thread, nullptr, forker, nullptr);
    pthread_join(thread, nullptr);
  }
  parent_goes_on();
}

static void vfork_exec() {   // the child runs in the parent's memory: what it allocates and frees is the parent's
  static int i;
  for (i = 0; i < 20; i++) {
    int pid = vfork();
    if (pid == 0) {
      execl("/bin/sh", "sh", "-c", "exit 7", nullptr);
      _exit(9);
    }
    finish(pid);
    expect_region(false, pid);
  }
  for (i = 0; i < 20; i++) {
    int pid = vfork();
    if (pid == 0) {
      free(site_by_neighbour());
      _exit(7);
    }
    finish(pid);
    expect_region(false, pid);
  }
  expect("site_by_neighbour", 20, 752, 20);
  parent_goes_on();
}

static void vfork_in_grace() {   // the grace's last call is made by a vfork child of a child of fork: the region is not that one's
  int pid = fork();
  if (pid == 0) {
    site_in_child();
    static int i;
    int guest = vfork();
    if (guest == 0) {
      for (i = 0; i < 200; i++) free(site_by_neighbour());
      _exit(7);
    }
    finish(guest);
    expect_region(false, guest);
    for (i = 0; i < 25; i++) site_in_child_later();
    wait_for_own_region();
    expect("site_in_child", 1, 624, 0);
    expect("site_in_child_later", 25, 656, 0);
    expect("site_by_neighbour", 200, 752, 200);
    expect_region(true);
    _exit(7);
  }
  finish(pid);
  parent_goes_on();
}

static void spawn() {
  for (int i = 0; i < 20; i++) {
    int pid = 0;
    char* const arguments[] = {const_cast<char*>("sh"), const_cast<char*>("-c"), const_cast<char*>("exit 7"), nullptr};
    if (posix_spawn(&pid, "/bin/sh", nullptr, nullptr, arguments, environ) != 0) _exit(8);
    expect_region(false, pid);
    finish(pid);
  }
  if (system("exit 7") != 7 << 8) _exit(8);
  parent_goes_on();
}

static void raw(int (*make_child)()) {   // no atfork handler runs
  int pid = make_child();
  if (pid == 0) {
    free(inherited[0]);
    for (int i = 0; i < 20000; i++) {   // more than child_grace_allocations
      void* block = site_in_child();
      if (i >= 10) free(block);
    }
    // Whether it gets a region is the shim's affair; that it runs on, and that its parent's figures are untouched, is not.
    _exit(7);
  }
  finish(pid);
  parent_goes_on();
}
static int by_under_fork() { return _Fork(); }
static int by_clone() { return int(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0)); }

// The child unmaps the stack of a thread that it does not have, and calls nothing else that we see.
static void fork_unmaps_stack() {
  constexpr size_t kStack = 1 << 20;
  static pthread_barrier_t ready;
  auto* stack = static_cast<char*>(mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  pthread_attr_t attributes;
  pthread_t neighbour;
  pthread_barrier_init(&ready, nullptr, 2);
  pthread_attr_init(&attributes);
  pthread_attr_setstack(&attributes, stack, kStack);
  auto stays = [](void*) -> void* {
    site_by_neighbour();
    pthread_barrier_wait(&ready);
    for (;;) pause();
  };
  pthread_create(&neighbour, &attributes, stays, nullptr);
  pthread_barrier_wait(&ready);
  int pid = fork();
  if (pid == 0) {
    syscall(SYS_munmap, stack + kStack / 2, kStack / 2);
    munmap(stack, kStack / 2);
    syscall(SYS_exit_group, 7);
  }
  finish(pid);
  expect("site_by_neighbour", 1, 752, 0);
  _exit(0);
}

int main(int argc, char** argv) {
  struct { const char* name; void (*run)(); } modes[] = {
      {"lives", fork_lives},   {"idle", fork_idle},       {"exec", fork_exec},   {"short", fork_short},
      {"tree", fork_tree},     {"in_grace", fork_in_grace}, {"threads", fork_threads}, {"in_thread", fork_in_thread}, {"vfork", vfork_exec},
      {"vfork_in_grace", vfork_in_grace}, {"spawn", spawn}, {"under_fork", [] { raw(by_under_fork); }},
      {"clone", [] { raw(by_clone); }}, {"unmaps_stack", fork_unmaps_stack},
  };
  for (auto& block : inherited) block = site_before_fork();
  for (auto& mode : modes)
    if (argc > 1 && strcmp(argv[1], mode.name) == 0) {
      mode.run();
      return 0;
    }
  return 2;
}
