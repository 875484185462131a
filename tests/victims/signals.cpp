// Signal handlers on an alternate stack that allocate. malloc in a handler is not allowed by any standard; programs do it.
//   raised   raise() from ordinary code: handlers never interrupt the allocator, every block has its stack
//   nested   a handler is raised within a handler, on the same alternate stack
//   storm    a second thread sends signals without pause while the first allocates: some handlers interrupt the allocator
//            itself, and their blocks must be in coverage.nested_*. No table for site_in_storm alone: see the test.
//   alone    a timer does so, and there is no other thread: a child's region is made by the thread that the handlers interrupt
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <pthread.h>
#include <sched.h>
#include <sys/time.h>

#include "expect.h"

constexpr int kSize = 496;
static char alternate_stack[65536];

SITE void* site_in_handler() { return keep(malloc(kSize)); }
SITE void* site_outside() { return keep(malloc(528)); }
SITE void* site_in_storm() { return keep(malloc(560)); }
SITE void* site_interrupted(int i) { return keep(malloc(16 + i % 5000)); }

static void install(int signal, void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = SA_ONSTACK | SA_RESTART | SA_NODEFER;
  sigaction(signal, &action, nullptr);
}

static void on_signal(int) {
  void* block = site_in_handler();
  static int n;
  if (n++ % 2) free(block);
}
static void on_outer(int) {
  free(site_in_handler());
  raise(SIGUSR2);
}
static void on_inner(int) { free(site_in_handler()); }

FRAME void raise_here() {
  free(site_outside());
  raise(SIGUSR1);
  free(site_outside());
}

static std::atomic<int> handled, stop;
constexpr int kStorm = 5000;
static void* storm_blocks[kStorm + 1];
static void on_storm(int) {
  int n = handled.load();
  if (n < kStorm) storm_blocks[n] = site_in_storm();
  handled.store(n + 1);
}
static void set_timer() {
  itimerval once = {{0, 0}, {0, 50}};   // set anew by the handler, so that something else runs, too, where that takes longer
  setitimer(ITIMER_REAL, &once, nullptr);
}
static void on_timer(int signal) {
  on_storm(signal);
  if (handled.load() < kStorm) set_timer();
}

SITE void* send_signals(void* target) {
  for (int i = 0; i < kStorm && !stop; i++) {
    pthread_kill(*static_cast<pthread_t*>(target), SIGUSR1);
    for (int spins = 0; handled.load() <= i && !stop; spins++)
      if (spins % 100 == 99) sched_yield();
  }
  return nullptr;
}

static void alone() {
  install(SIGALRM, on_timer);
  set_timer();
  while (handled.load() < kStorm) free(site_outside());
}

static void storm() {
  install(SIGUSR1, on_storm);
  pthread_t self = pthread_self(), sender;
  pthread_create(&sender, nullptr, send_signals, &self);
  long count = 0, bytes = 0;
  while (handled.load() < kStorm) {
    int i = int(count % 100000);
    free(site_interrupted(i));
    for (volatile int rest = 0; rest < 20; rest = rest + 1) {}   // some signals are to come outside of the allocator
    count++;
    bytes += 16 + i % 5000;
  }
  stop = 1;
  pthread_join(sender, nullptr);
  for (int i = 0; i < kStorm / 2; i++) free(storm_blocks[i]);   // with or without a stack, they must be freeable
  SAY("{\"storm_allocated\":%d,\"storm_freed\":%d,\"size\":560}\n", kStorm, kStorm / 2);
  expect_bytes("site_interrupted", count, bytes, count, bytes);
}

int main(int argc, char** argv) {
  const char* mode = argc > 1 ? argv[1] : "raised";
  stack_t stack = {};
  stack.ss_sp = alternate_stack;
  stack.ss_size = sizeof alternate_stack;
  sigaltstack(&stack, nullptr);

  if (strcmp(mode, "raised") == 0) {
    install(SIGUSR1, on_signal);
    for (int i = 0; i < 1000; i++) raise_here();
    expect("site_in_handler", 1000, kSize, 500);
    expect("site_outside", 2000, 528, 2000);
    expect_callers("site_in_handler", "on_signal");
  } else if (strcmp(mode, "nested") == 0) {
    install(SIGUSR1, on_outer);
    install(SIGUSR2, on_inner);
    for (int i = 0; i < 1000; i++) raise_here();
    expect("site_in_handler", 2000, kSize, 2000);
    expect("site_outside", 2000, 528, 2000);
  } else if (strcmp(mode, "alone") == 0) {
    alone();
  } else {
    storm();
  }
}
