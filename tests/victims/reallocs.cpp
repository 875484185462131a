// realloc in all its forms. A realloc that succeeds is a free at the block's old site and an allocation at its own; one that
// fails changes nothing, and the block stays with its site.
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <malloc.h>
#include <pthread.h>

#include "expect.h"

SITE void* site_first() { return keep(malloc(100)); }
SITE void* site_grow(void* p) { return keep(realloc(p, 5000)); }
SITE void* site_shrink(void* p) { return keep(realloc(p, 60)); }
SITE void* site_in_place(void* p) { return keep(realloc(p, 61)); }   // same size class: the address stays
SITE void* site_from_null() { return keep(realloc(nullptr, 77)); }
SITE void* site_large_grow(void* p) { return keep(realloc(p, 2000003)); }
SITE void* site_large_shrink(void* p) { return keep(realloc(p, 1500007)); }
SITE void* site_array(void* p) { return keep(reallocarray(p, 9, 13)); }
SITE void* site_survivor() { return keep(malloc(333)); }
SITE void site_to_zero(void* p) { void* r = keep(realloc(p, 0)); if (r) abort(); }
SITE void fail_huge(void* p) {
  volatile size_t too_much = PTRDIFF_MAX;
  if (realloc(p, too_much) != nullptr || errno != ENOMEM) abort();
  if (reallocarray(p, too_much, 3) != nullptr || errno != ENOMEM) abort();
}
SITE void* site_racer() { return keep(malloc(500)); }
SITE void* site_raced(void* p) { return keep(realloc(p, 900)); }

constexpr int kRacers = 4, kRaces = 5000;
SITE void* race(void*) {   // blocks migrate between size classes while other threads do the same
  for (int i = 0; i < kRaces; i++) free(site_raced(site_racer()));
  return nullptr;
}

int main() {
  for (int i = 0; i < 300; i++) {
    char* p = static_cast<char*>(site_first());
    memset(p, i, 100);
    p = static_cast<char*>(site_grow(p));
    if (p[99] != char(i)) abort();
    p = static_cast<char*>(site_shrink(p));
    if (p[59] != char(i)) abort();
    p = static_cast<char*>(site_in_place(p));
    if (i % 3 == 0) free(p);
    else if (i % 3 == 1) site_to_zero(p);
  }
  expect("site_first", 300, 100, 300);
  expect("site_grow", 300, 5000, 300);
  expect("site_shrink", 300, 60, 300);
  expect("site_in_place", 300, 61, 200);
  expect("site_to_zero", 0, 0, 0);

  for (int i = 0; i < 50; i++) {
    void* p = site_large_shrink(site_large_grow(site_from_null()));
    if (i < 10) free(site_array(p));
  }
  expect("site_from_null", 50, 77, 50);
  expect("site_large_grow", 50, 2000003, 50);
  expect("site_large_shrink", 50, 1500007, 10);
  expect("site_array", 10, 9 * 13, 10);

  for (int i = 0; i < 20; i++) {
    void* p = site_survivor();
    memset(p, 7, 333);
    fail_huge(p);
    if (static_cast<char*>(p)[332] != 7 || malloc_usable_size(p) < 333) abort();
    if (i < 5) free(p);
  }
  expect("site_survivor", 20, 333, 5);
  expect("fail_huge", 0, 0, 0);

  pthread_t threads[kRacers];
  for (auto& thread : threads) pthread_create(&thread, nullptr, race, nullptr);
  for (auto& thread : threads) pthread_join(thread, nullptr);
  expect("site_racer", kRacers * kRaces, 500, kRacers * kRaces);
  expect("site_raced", kRacers * kRaces, 900, kRacers * kRaces);
}
