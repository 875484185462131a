// Eight threads allocate from the same sites and hand blocks to their neighbour, who frees them; every thread's share of every
// site is known. Half of the blocks die at home, a quarter at the neighbour's, the rest stays live.
#include <cstdlib>
#include <pthread.h>

#include "expect.h"

constexpr int kThreads = 8, kRounds = 20000;

SITE void* site_home() { return keep(malloc(40)); }
SITE void* site_away() { return keep(malloc(72)); }
SITE void* site_stays() { return keep(malloc(104)); }
SITE void* site_alone_0() { return keep(malloc(200)); }   // used by one thread only, freed by another

static void* mailbox[kThreads][kRounds];
static void* kept[kThreads][kRounds / 4];
static void* alone[1000];
static pthread_barrier_t barrier;

SITE void* worker_main(void* argument) {
  long me = long(argument);
  if (me == 0)
    for (auto& block : alone) block = site_alone_0();
  for (int i = 0; i < kRounds; i++) {
    void* block = site_home();
    if (i % 2) mailbox[me][i] = site_away();
    if (i % 4 == 0) kept[me][i / 4] = site_stays();
    free(block);
  }
  pthread_barrier_wait(&barrier);
  int neighbour = int(me + 1) % kThreads;
  for (int i = 1; i < kRounds; i += 4) free(mailbox[neighbour][i]);   // half of the neighbour's
  if (me == 3)
    for (auto& block : alone) free(block);
  return nullptr;
}

int main() {
  pthread_barrier_init(&barrier, nullptr, kThreads);
  pthread_t threads[kThreads];
  for (long i = 0; i < kThreads; i++) pthread_create(&threads[i], nullptr, worker_main, reinterpret_cast<void*>(i));
  for (pthread_t thread : threads) pthread_join(thread, nullptr);
  expect("site_home", kThreads * kRounds, 40, kThreads * kRounds);
  expect("site_away", kThreads * kRounds / 2, 72, kThreads * kRounds / 4);
  expect("site_stays", kThreads * kRounds / 4, 104, 0);
  expect("site_alone_0", 1000, 200, 1000);
}
