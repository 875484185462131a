// longjmp out of nested calls that allocated: frames vanish without returning, and the next stacks lie over their remains.
#include <csetjmp>
#include <cstdlib>

#include "expect.h"

static jmp_buf back;
static int depth_of_jump;

SITE void* site_before_jump() { return keep(malloc(96)); }
SITE void* site_after_jump() { return keep(malloc(160)); }

FRAME void descend(int depth) {
  volatile char room[32];
  room[0] = char(depth);
  void* block = site_before_jump();
  if (depth % 2) free(block);
  if (depth == depth_of_jump) longjmp(back, 1);
  descend(depth + 1);
  room[1] = room[0];
}
FRAME void wide(int i) {
  volatile char room[700];
  room[i % 700] = 1;
  free(site_after_jump());
  (void)room[0];
}

int main() {
  static long before, freed;   // static: setjmp makes promises to nobody else
  for (static int i = 0; i < 2000; i++) {
    depth_of_jump = i % 17;
    before += depth_of_jump + 1;
    freed += (depth_of_jump + 1) / 2;
    if (setjmp(back) == 0) descend(0);
    wide(i);
  }
  expect("site_before_jump", before, 96, freed);
  expect("site_after_jump", 2000, 160, 2000);
  expect_callers("site_after_jump", "wide main");
}
