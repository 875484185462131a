// malloc + free at a fixed depth, some thousand times: what is counted by callgrind. Arguments: pairs, depth, "same" or "turns" (16 stacks
// that take turns).
#include <cstdlib>
#include <cstring>

#define FRAME __attribute__((noinline, noclone))

static void* volatile kept;

FRAME void right(unsigned depth, unsigned long path);
FRAME void left(unsigned depth, unsigned long path) {
  if (depth == 0) {
    void* block = malloc(64);
    kept = block;
    free(block);
  } else {
    (path & 1 ? right : left)(depth - 1, path >> 1);
  }
  asm volatile("");   // not a tail call
}
FRAME void right(unsigned depth, unsigned long path) {
  if (depth == 0) {
    void* block = malloc(64);
    kept = block;
    free(block);
  } else {
    (path & 1 ? right : left)(depth - 1, path >> 1);
  }
  asm volatile("" ::: "memory");
}

// What is counted: callgrind --toggle-collect=run_pairs, so of this thread only.
extern "C" FRAME void run_pairs(unsigned pairs, unsigned depth, bool turns) {
  for (unsigned i = 0; i < pairs; i++) left(depth, turns ? (i & 15) << 8 : 0);
}

int main(int, char** arguments) {
  void* first = malloc(64);   // a block at a page's start is freed another way by jemalloc
  kept = first;
  unsigned pairs = unsigned(atoi(arguments[1])), depth = unsigned(atoi(arguments[2]));
  bool turns = strcmp(arguments[3], "turns") == 0;
  run_pairs(pairs, depth, turns);
  free(first);
}
