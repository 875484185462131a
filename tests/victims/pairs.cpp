// malloc + free at a fixed depth, some thousand times: what is counted by callgrind. Arguments: pairs, depth, "same" or "turns" (16 stacks
// that take turns).
#include <cstdlib>
#include <cstring>

#include "two_ways.h"

static void* volatile kept;

// What is counted: callgrind --toggle-collect=run_pairs, so of this thread only.
extern "C" __attribute__((noinline)) void run_pairs(unsigned pairs, unsigned depth, bool turns) {
  for (unsigned i = 0; i < pairs; i++)
    two_ways<0>(depth, turns ? (i & 15) << 8 : 0, [] {
      void* block = malloc(64);
      kept = block;
      free(block);
    });
}

int main(int, char** arguments) {
  void* first = malloc(64);   // a block at a page's start is freed another way by jemalloc
  kept = first;
  unsigned pairs = unsigned(atoi(arguments[1])), depth = unsigned(atoi(arguments[2]));
  bool turns = strcmp(arguments[3], "turns") == 0;
  run_pairs(pairs, depth, turns);
  free(first);
}
