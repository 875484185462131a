// One thread, every plain entry of the C family, blocks of all size classes. "lie" makes the printed table wrong by one block,
// which the harness must notice.
#include <cstdlib>
#include <cstring>

#include "expect.h"

SITE void* site_small() { return keep(malloc(24)); }
SITE void* site_odd() { return keep(malloc(1001)); }
SITE void* site_page() { return keep(malloc(4097)); }
SITE void* site_large() { return keep(malloc(300001)); }
SITE void* site_huge() { return keep(malloc((9u << 20) + 13)); }
SITE void* site_zero() { return keep(malloc(0)); }
SITE void* site_calloc() { return keep(calloc(7, 31)); }
SITE void* site_one_byte() { return keep(malloc(1)); }
SITE void* site_boundary() { return keep(malloc(16384)); }   // first size whose record has a second word

FRAME void* from_here(void* (*site)()) { return keep(site()); }
FRAME void* from_there(void* (*site)()) { return keep(site()); }

static void run(const char* name, void* (*site)(), long size, int count, int freed) {
  void* blocks[4000];
  for (int i = 0; i < count; i++) {
    blocks[i] = i % 2 ? from_here(site) : from_there(site);   // two stacks, one site
    if (size) memset(blocks[i], 0x5a, size < 64 ? size : 64);
  }
  for (int i = 0; i < freed; i++) free(blocks[i % 2 ? i / 2 : count - 1 - i / 2]);   // oldest and newest in turn
  expect(name, count, size, freed);
}

int main(int argc, char** argv) {
  bool lie = argc > 1 && strcmp(argv[1], "lie") == 0;
  run("site_small", site_small, 24, 4000, 1234);
  run("site_odd", site_odd, 1001, 3000, 0);
  run("site_page", site_page, 4097, 500, 499);
  run("site_large", site_large, 300001, 40, 11);
  run("site_huge", site_huge, (9 << 20) + 13, 3, 1);
  run("site_zero", site_zero, 0, 100, 30);
  run("site_calloc", site_calloc, 7 * 31, 1000, 999);
  run("site_one_byte", site_one_byte, 1, 2000, 1);
  run("site_boundary", site_boundary, 16384, 64, lie ? 31 : 32);
  if (lie) free(site_boundary());   // done, and not in the table
  free(nullptr);
  return 0;
}
