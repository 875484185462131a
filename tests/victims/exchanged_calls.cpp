// A recursive function that calls itself from 48 lines, eight deep: for some two of the depths, two of the lines, and the same two exchanged, three times each. Each such stack asks for a size of its own. What a report must show: 3 blocks at each stack, of one size.
#include <cstdlib>

#include "expect.h"

static constexpr int kLines = 48, kDepth = 8;
static unsigned char lines[kDepth];
static void* block;

#define CALL(k)                                     \
  case k:                                           \
    descend(depth + 1, bytes);                      \
    asm volatile("# %c0" : : "i"(k) : "memory");    \
    break;
#define CALLS(k) CALL(k) CALL(k + 1) CALL(k + 2) CALL(k + 3) CALL(k + 4) CALL(k + 5) CALL(k + 6) CALL(k + 7)

SITE void descend(int depth, int bytes) {
  if (depth == kDepth) {
    block = keep(malloc(size_t(bytes)));
    asm volatile("" : : : "memory");
    return;
  }
  switch (lines[depth]) { CALLS(0) CALLS(8) CALLS(16) CALLS(24) CALLS(32) CALLS(40) }
}

int main() {
  static const int kPairs[][2] = {{2, 4}, {1, 7}, {6, 7}};   // return addresses 3 and 5, 0 and 6, 0 and 1 from the allocation on
  int stacks = 0;
  for (int round = 0; round < 3; round++)
    for (auto [one, other] : kPairs)
      for (int a = 1; a < kLines; a++)
        for (int b = 1; b < kLines; b++) {   // from 1 on: 0 is what the others do
          if (a == b) continue;
          for (unsigned char& line : lines) line = 0;
          lines[one] = (unsigned char)a, lines[other] = (unsigned char)b;
          descend(0, 1 + kLines * a + b);
          stacks += !round;
        }
  SAY("%d\n", stacks);
}
