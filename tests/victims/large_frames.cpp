// Three frames of 100 KB each and one of 300 KB, which save rbp but have no frame pointer, called by functions that have one, on a small stack with nothing readable below.
#include <cstdlib>
#include <sys/mman.h>
#include <ucontext.h>

#include "expect.h"

constexpr int kRounds = 50;

SITE void* site_under_large_frames() { return keep(malloc(208)); }

#define LARGE(name, bytes, next)                                                \
  __attribute__((noipa, optimize("omit-frame-pointer"))) void name(int n) {     \
    char room[bytes];                                                           \
    room[n] = 1;                                                                \
    asm volatile("" : : : "rbp");                                               \
    next;                                                                       \
    keep(room);                                                                 \
  }
LARGE(inner, 100000, free(site_under_large_frames()))
LARGE(middle, 100000, inner(n))
LARGE(outer, 100000, middle(n))
LARGE(outermost, 300000, outer(n))

#define POINTED(name, next)                                                     \
  __attribute__((noipa, optimize("no-omit-frame-pointer"))) void name(int n) {  \
    next;                                                                       \
    asm volatile("");                                                           \
  }
POINTED(first, outermost(n))
POINTED(second, first(n))

static ucontext_t home, fiber;
static void body() {
  for (int i = 0; i < kRounds; i++) second(i);
}

int main() {
  constexpr size_t kStack = 1 << 20, kBelow = 4 << 20;
  auto* memory = static_cast<char*>(mmap(nullptr, kBelow + kStack, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  mprotect(memory + kBelow, kStack, PROT_READ | PROT_WRITE);
  getcontext(&fiber);
  fiber.uc_stack.ss_sp = memory + kBelow;
  fiber.uc_stack.ss_size = kStack;
  fiber.uc_link = &home;
  makecontext(&fiber, body, 0);
  swapcontext(&home, &fiber);
  expect("site_under_large_frames", kRounds, 208, kRounds);
  expect_callers("site_under_large_frames", "inner middle outer outermost first second");
}
