// Children and the options that govern their regions. Usage: children MODE
#include <cstdlib>
#include <cstring>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "expect.h"
#include "wait_region.h"

SITE void* site_early() { return keep(malloc(816)); }
SITE void* site_late() { return keep(malloc(848)); }
SITE void* site_many() { return keep(malloc(880)); }
SITE void* site_again() { return keep(malloc(880)); }

static void allocate(void* (*site)(), int count, int freed) {
  for (int i = 0; i < count; i++) {
    void* block = site();
    if (i < freed) free(block);
  }
}
template <class Body>
static void in_child(Body body, bool region) {
  int pid = fork();
  if (pid == 0) {
    body();
    _exit(0);
  }
  expect_region(region, pid);
  int status;
  if (waitpid(pid, &status, 0) == pid && WIFSIGNALED(status)) _exit(9);
}

// A program that lives longer than its grace: early and late allocations are in its region, exactly.
static void long_lived() {
  allocate(site_early, 500, 123);
  bool there = wait_for_own_region();
  allocate(site_late, 70, 7);
  expect("site_early", 500, 816, 123);
  expect("site_late", 70, 848, 7);
  if (getenv("REGION_DIR")) expect_region(there);
}
// Reaches child_grace_allocations: the region is there at once, with all that came before.
static void busy() {
  allocate(site_many, 5000, 600);
  wait_for_own_region();
  expect("site_many", 5000, 880, 600);
}
// As a daemon does that goes into the background and then makes workers: each has its region, by its allocations, before it forks.
static void generations(int more) {
  allocate(site_many, 5000, 600);
  expect("site_many", 5000, 880, 600);
  if (more) in_child([more] { generations(more - 1); }, true);
}
// Gets no region, for its files may not be so large, and goes on; a child of its own gets one, and knows of no block that came or went meanwhile.
static void refused() {
  constexpr int kBlocks = 5000;
  static void* blocks[kBlocks];
  rlimit limit{1 << 20, RLIM_INFINITY};
  setrlimit(RLIMIT_FSIZE, &limit);
  for (auto& block : blocks) block = site_many();
  for (void* block : blocks) free(block);
  for (auto& block : blocks) block = site_again();
  limit.rlim_cur = RLIM_INFINITY;
  setrlimit(RLIMIT_FSIZE, &limit);
  in_child([] {
    allocate(site_early, 5000, 100);
    wait_for_own_region();
    expect("site_early", 5000, 816, 100);
    expect_inherited("site_many", 0, 880);
    expect_inherited("site_again", 0, 880);
  }, true);
}
// Acts for another user when its grace is over, as a file server's process does while it serves one.
static void acting() {
  if (seteuid(65534) != 0) _exit(3);
  allocate(site_many, 5000, 600);
  sleep_ms(300);
  if (seteuid(0) != 0) _exit(4);
  wait_for_own_region();   // which that user may not read
  expect("site_many", 5000, 880, 600);
}
static void exec_self(const char* mode) {
  execl("/proc/self/exe", program_invocation_name, mode, nullptr);
  _exit(9);
}

int main(int argc, char** argv) {
  const char* mode = argc > 1 ? argv[1] : "";
  auto is = [mode](const char* name) { return strcmp(mode, name) == 0; };
  if (is("long_lived")) long_lived();
  if (is("quiet")) allocate(site_early, 10, 0);
  if (is("busy")) busy();
  if (is("fork_busy")) in_child(busy, true);
  if (is("generations")) generations(4);
  if (is("background")) {   // its parent is gone before it is recorded
    allocate(site_early, 10, 0);
    int parent = getpid();
    if (fork() != 0) _exit(0);
    while (getppid() == parent) sleep_ms(1);
    busy();
  }
  if (is("fork_late")) sleep_ms(2000), in_child([] { busy(), sleep_ms(1000); }, true);
  if (is("fork_quiet")) in_child([] { allocate(site_early, 10, 0), sleep_ms(300); }, false);
  if (is("fork_frees")) in_child([] { allocate(site_many, 3000, 3000); }, false);   // more calls than child_grace_allocations, not more allocations
  if (is("acting")) in_child(acting, true);
  if (is("refused")) in_child(refused, false);
  if (is("exec_long_lived")) in_child([] { exec_self("long_lived"); }, true);
  if (is("exec_busy")) in_child([] { exec_self("busy"); }, true);
  if (is("lasting")) busy(), sleep_ms(1000);
  if (is("exec_lasting")) in_child([] { exec_self("lasting"); }, true);
  if (is("exec_quiet")) in_child([] { exec_self("quiet"); }, false);
  if (is("two_sleepers")) {   // for regions_max: two children that live at the same time and long enough for a region
    int out[2], gate[2];
    if (pipe(out) || pipe(gate)) return 2;
    int pids[2];
    for (int& pid : pids)
      if ((pid = fork()) == 0) {
        close(gate[1]);
        close(out[0]);
        allocate(site_many, 5000, 5000);   // one of them gets the last region, at once
        char c = 'x';
        if (write(out[1], &c, 1) != 1 || read(gate[0], &c, 1) != 0) _exit(2);   // until the parent closes its end
        _exit(0);
      }
    char c;
    for (int i = 0; i < 2; i++)
      if (read(out[0], &c, 1) != 1) return 2;
    close(gate[1]);
    for (int pid : pids) waitpid(pid, nullptr, 0);
    expect("site_many", 0, 0, 0);
  }
  return 0;
}
