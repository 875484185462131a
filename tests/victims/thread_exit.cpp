// Threads come and go by the hundred: what a dead thread had counted must stay counted, blocks outlive it and are freed by
// others, and destructors of thread-local objects and keys allocate and free when the thread is half gone.
#include <cstdlib>
#include <pthread.h>

#include "expect.h"

constexpr int kThreads = 600, kBlocks = 50;

SITE void* site_left_behind() { return keep(malloc(56)); }
SITE void* site_in_key_destructor() { return keep(malloc(88)); }
SITE void* site_in_tls_destructor() { return keep(malloc(120)); }
SITE void* site_freed_in_destructor() { return keep(malloc(152)); }

static void* left[kThreads][kBlocks];
static pthread_key_t key;

struct Local {
  void* block = nullptr;
  ~Local() {
    free(block);
    keep(site_in_tls_destructor());   // never freed
  }
};
static thread_local Local local;

static void key_destructor(void* value) {
  free(value);
  void* block = site_in_key_destructor();
  static thread_local int rounds;
  if (++rounds < 3) pthread_setspecific(key, block);   // again: glibc calls key destructors up to four times
  else free(block);
}

SITE void* worker_main(void* argument) {
  long me = long(argument);
  local.block = site_freed_in_destructor();
  pthread_setspecific(key, site_freed_in_destructor());
  for (auto& block : left[me]) block = site_left_behind();
  return nullptr;
}

int main() {
  pthread_key_create(&key, key_destructor);
  constexpr int kAtOnce = 6;
  for (long i = 0; i < kThreads; i += kAtOnce) {
    pthread_t threads[kAtOnce];
    for (long k = 0; k < kAtOnce; k++) pthread_create(&threads[k], nullptr, worker_main, reinterpret_cast<void*>(i + k));
    for (pthread_t thread : threads) pthread_join(thread, nullptr);
    if (i > 0)
      for (auto* block : left[i - 1]) free(block);   // of a thread that has ended
  }
  expect("site_left_behind", kThreads * kBlocks, 56, (kThreads / kAtOnce - 1) * kBlocks);
  expect("site_in_key_destructor", kThreads * 3, 88, kThreads * 3);
  expect("site_in_tls_destructor", kThreads, 120, 0);
  expect("site_freed_in_destructor", kThreads * 2, 152, kThreads * 2);
}
