// 10 000 frames deep: the report keeps the innermost 128 or more and says that it cut the rest; counts stay exact.
#include <cstdlib>

#include "expect.h"

constexpr int kDepth = 10000;

SITE void* site_at_the_bottom() { return keep(malloc(432)); }
SITE void* site_on_the_way() { return keep(malloc(464)); }

SITE void recurse(int depth) {
  if (depth % 100 == 0) free(site_on_the_way());
  if (depth == kDepth) {
    for (int i = 0; i < 10; i++) site_at_the_bottom();
    return;
  }
  recurse(depth + 1);
  asm volatile("");
}

int main() {
  for (int i = 0; i < 5; i++) recurse(1);
  expect("site_at_the_bottom", 50, 432, 0);
  expect("site_on_the_way", 500, 464, 500);
}
