// Threads that allocate for the first time inside glibc, under a lock of their own: pthread_getattr_np calls realloc. The JVM's threads do.
#include <cstdlib>
#include <pthread.h>

#include "expect.h"
#include "wait_region.h"

constexpr int kThreads = 20;

SITE void* site_after() { return keep(malloc(56)); }

SITE void* asks_first(void*) {
  pthread_attr_t attributes;
  if (pthread_getattr_np(pthread_self(), &attributes) != 0) abort();
  pthread_attr_destroy(&attributes);
  free(site_after());
  return nullptr;
}

int main() {
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; i++) {
    if (i == kThreads / 2) {   // some before tidemark's own thread runs, some after
      wait_for_own_region();
      sleep_ms(100);
    }
    pthread_create(&threads[i], nullptr, asks_first, nullptr);
  }
  for (auto& thread : threads) pthread_join(thread, nullptr);
  expect("site_after", kThreads, 56, kThreads);
}
