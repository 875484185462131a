// A signal handler that allocates comes while a thread is new to the allocator, or is leaving it.
//
//   handlers_at_edges aligned|usable|end|deferred|refused ROUNDS
//     aligned, usable  a thread's first call is posix_memalign, or malloc_usable_size of a large block
//     end              it ends meanwhile; somebody asks for statistics now and then
//     deferred         what the handler frees while the thread is inside the allocator is all that the thread does: it makes no further call
//     refused          the handler asks for more than there can be
#include <atomic>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <malloc.h>
#include <pthread.h>

#include "expect.h"

static std::atomic<int> stage, handled;
static void* large;
static const char* mode;

SITE void* site_in_handler() { return keep(malloc(40)); }
SITE void* site_given_to_handler() { return keep(malloc(104)); }
SITE void* site_busy() { return keep(malloc(3000)); }

static void* volatile given;
static void handler(int) {
  if (strcmp(mode, "refused") == 0) {
    if (void* block = malloc(SIZE_MAX / 4)) abort(), keep(block);
  } else if (strcmp(mode, "deferred") == 0) {
    free(given);
    stage = 2;
  } else {
    free(site_in_handler());
  }
  handled++;
}

static void allow(int how) {
  sigset_t only;
  sigemptyset(&only);
  sigaddset(&only, SIGUSR1);
  pthread_sigmask(how, &only, nullptr);
}

static void* first_call(void*) {
  stage = 1;
  void* block = nullptr;
  [[maybe_unused]] static volatile size_t usable;
  if (strcmp(mode, "usable") == 0) usable = malloc_usable_size(large);
  else if (posix_memalign(&block, 64, 100) == 0) free(block);
  while (stage != 2) {}
  return nullptr;
}
static void* last_call(void*) {
  void* blocks[64];
  for (int round = 0; round < 20; round++) {
    for (int i = 0; i < 64; i++) blocks[i] = keep(malloc(size_t(20 + i * 40)));
    for (void* block : blocks) free(block);
  }
  stage = 1;
  return nullptr;
}
static void* busy(void*) {
  allow(SIG_UNBLOCK);
  stage = 1;
  for (;;) {
    void* block = site_busy();
    if (stage == 2) break;
    free(block);
  }
  allow(SIG_BLOCK);
  return nullptr;
}
static void* refused(void*) {
  stage = 1;
  while (stage != 2) free(site_busy());
  return nullptr;
}

int main(int, char** arguments) {
  mode = arguments[1];
  int rounds = atoi(arguments[2]);
  large = malloc(1 << 20);
  bool deferred = strcmp(mode, "deferred") == 0, end = strcmp(mode, "end") == 0;
  void* (*run)(void*) = deferred ? busy : end ? last_call : strcmp(mode, "refused") == 0 ? refused : first_call;
  if (deferred) allow(SIG_BLOCK);
  signal(SIGUSR1, handler);
  unsigned chance = 1;
  for (int i = 0; i < rounds; i++) {
    stage = 0;
    if (deferred) given = site_given_to_handler();
    pthread_t thread;
    pthread_create(&thread, nullptr, run, nullptr);
    while (stage == 0) {}
    chance = chance * 1103515245 + 12345;
    for (volatile unsigned wait = (chance >> 16) % 4000; wait > 0; wait = wait - 1) {}
    pthread_kill(thread, SIGUSR1);
    if (!end && !deferred) {
      while (handled <= i) {}
      stage = 2;
    }
    pthread_join(thread, nullptr);
    if (end && i % 50 == 0) mallinfo2();
  }
  mallinfo2();
  if (deferred) expect("site_given_to_handler", rounds, 104, rounds);
}
