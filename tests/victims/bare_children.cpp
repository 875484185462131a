// Children that no fork handler makes ready: by _Fork, by a raw clone, by a fork() of a handler that interrupted malloc. Each makes few calls, of which it prints
// the table: some at once, one when its region is there (or its grace would be over), one a second of its own clock later.
//
//   bare_children under_fork|clone|handler [ends]      ends: without that last call, and by exit, when its grace is over
#include <csignal>
#include <cstdlib>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "expect.h"
#include "wait_region.h"

SITE void* site_at_once() { return keep(malloc(624)); }
SITE void* site_in_between() { return keep(malloc(656)); }
SITE void* site_at_last() { return keep(malloc(688)); }

static bool is(const char* text, const char* name) { return strcmp(text, name) == 0; }

// Calls until its region is there: a sleep without calls has nobody who would end the grace.
static long call_until_recorded() {
  const char* folder = getenv("REGION_DIR");
  char path[512];
  snprintf(path, sizeof path, "%s/%s.%d.tide", folder ? folder : "", program_invocation_short_name, getpid());
  long calls = 0;
  for (; calls < 1000 && access(path, R_OK) != 0; calls++) {   // few: no number of calls ends the grace
    free(site_in_between());
    sleep_ms(folder ? 10 : 0);
  }
  return calls;
}

[[noreturn]] static void live(bool ends) {
  for (int i = 0; i < 10; i++) site_at_once();
  if (ends) {
    sleep_ms(1000);
    expect("site_at_once", 10, 624, 0);
    expect_region(true);
    _exit(7);
  }
  long calls = call_until_recorded();
  sleep_ms(1500);
  free(site_in_between());   // who has no keeper notices the time by a call
  site_at_last();
  expect("site_at_once", 10, 624, 0);
  expect("site_in_between", calls + 1, 656, calls + 1);
  expect("site_at_last", 1, 688, 0);
  expect_region(true);
  _exit(7);
}

static void wait_for(pid_t pid) {
  int status = 0;
  if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 7) {
    dprintf(2, "child %d ended with status %x\n", pid, status);
    _exit(9);
  }
}

// Of these many hardly one comes where malloc is not interrupted. They live side by side.
constexpr int kForks = 20;
static pid_t children[kForks];
static volatile sig_atomic_t forks, is_child;
static void handler(int) {
  if (forks == kForks || is_child) return;
  pid_t pid = fork();
  if (pid == 0) is_child = 1;
  else children[forks] = pid, forks = forks + 1;
}
static void fork_in_handlers(bool ends) {
  signal(SIGALRM, handler);
  itimerval every{{0, 3000}, {0, 3000}}, never{};
  setitimer(ITIMER_REAL, &every, nullptr);
  while (forks < kForks && !is_child) {
    for (size_t i = 1; i < 2000 && !is_child; i++) free(keep(malloc(i * 40)));
  }
  setitimer(ITIMER_REAL, &never, nullptr);
  if (is_child) live(ends);
  for (pid_t pid : children) wait_for(pid);
}

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  bool ends = argc > 2 && is(argv[2], "ends");
  if (is(argv[1], "handler")) {
    fork_in_handlers(ends);
    return 0;
  }
  pid_t pid = is(argv[1], "clone") ? pid_t(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0)) : _Fork();
  if (pid == 0) live(ends);
  wait_for(pid);
}
