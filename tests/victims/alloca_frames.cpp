// Frames whose size only the frame itself knows: alloca, variable-length arrays, realigned frames, and 200 kB of locals.
// Three of any size inside each other, in three threads: hardly two stacks are alike in all sizes.
#include <alloca.h>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>

#include "expect.h"

SITE void* site_under_alloca() { return keep(malloc(272)); }
SITE void* site_under_array() { return keep(malloc(304)); }
SITE void* site_under_realigned() { return keep(malloc(336)); }
SITE void* site_under_large() { return keep(malloc(368)); }
SITE void* site_in_alloca_frame(int n) {   // the call to malloc itself stands in such a frame
  auto* room = static_cast<char*>(alloca(n));
  memset(room, 1, n);
  void* block = keep(malloc(400));
  keep(room);
  return block;
}

FRAME void with_alloca(int n) {
  auto* room = static_cast<char*>(alloca(n));
  memset(room, 1, n);
  free(site_under_alloca());
  keep(room);
}
FRAME void with_array(int n) {
  char room[n + 1];
  room[n] = 1;
  site_under_array();
  keep(room);
}
FRAME void with_realigned(int n) {
  alignas(64) char room[128];
  room[n % 128] = 1;
  free(site_under_realigned());
  keep(room);
}
FRAME void with_realigned_alloca(int n) {
  alignas(128) char room[128];
  auto* more = static_cast<char*>(alloca(n));
  room[n % 128] = more[0] = 1;
  free(site_under_realigned());
  keep(room);
  keep(more);
}
FRAME void with_large(int n) {
  char room[200000];
  room[n] = 1;
  site_under_large();
  keep(room);
}

SITE void* site_under_three() { return keep(malloc(432)); }
using Sizes = std::minstd_rand;
FRAME void third(Sizes& sizes) {
  auto* room = static_cast<char*>(alloca(1 + sizes() % 4000));
  room[0] = 1;
  free(site_under_three());
  keep(room);
}
FRAME void second(Sizes& sizes) {
  auto* room = static_cast<char*>(alloca(1 + sizes() % 4000));
  room[0] = 1;
  third(sizes);
  keep(room);
}
FRAME void first(Sizes& sizes) {
  auto* room = static_cast<char*>(alloca(1 + sizes() % 4000));
  room[0] = 1;
  second(sizes);
  keep(room);
}
FRAME void three_of_any_size(unsigned seed) {
  Sizes sizes(seed);
  for (int i = 0; i < 10'000; i++) first(sizes);
}

int main() {
  std::thread others[] = {std::thread(three_of_any_size, 1), std::thread(three_of_any_size, 2)};
  three_of_any_size(3);
  for (std::thread& other : others) other.join();
  for (int i = 0; i < 3000; i++) {
    with_alloca(1 + i * 7 % 900);
    with_array(i * 13 % 700);
    with_realigned(i);
    with_realigned_alloca(1 + i * 11 % 500);
    with_large(i);
    void* block = site_in_alloca_frame(1 + i * 5 % 300);
    if (i % 3 == 0) free(block);
  }
  expect("site_under_alloca", 3000, 272, 3000);
  expect("site_under_array", 3000, 304, 0);
  expect("site_under_realigned", 6000, 336, 6000);
  expect("site_under_large", 3000, 368, 0);
  expect("site_in_alloca_frame", 3000, 400, 1000);
  expect("site_under_three", 30'000, 432, 30'000);
  expect_callers("site_under_three", "third second first three_of_any_size");
  expect_callers("site_under_alloca", "with_alloca main");
  expect_callers("site_under_array", "with_array main");
  expect_callers("site_under_large", "with_large main");
  expect_callers("site_in_alloca_frame", "main");
}
