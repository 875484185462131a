// swapcontext coroutines: stacks on the heap, switched in the middle of things, handed from thread to thread, reused and freed.
#include <cstdlib>
#include <pthread.h>
#include <ucontext.h>

#include "expect.h"

constexpr int kFibers = 50, kYields = 20, kStack = 65536, kThreads = 2;

SITE void* site_fiber_stack() { return keep(malloc(kStack)); }
SITE void* site_in_fiber() { return keep(malloc(208)); }
SITE void* site_deep_in_fiber() { return keep(malloc(240)); }

struct Fiber {
  ucontext_t context, *home;
};
static thread_local Fiber* current;
FRAME Fiber* running() { return current; }   // noipa: the thread may differ after each switch

FRAME void deep(int depth) {
  if (depth) {
    deep(depth - 1);
    asm volatile("");
    return;
  }
  void* block = site_deep_in_fiber();
  Fiber* self = running();
  swapcontext(&self->context, self->home);   // yields with these frames on its stack
  free(block);
}
static void body() {
  for (int i = 0; i < kYields; i++) {
    void* block = site_in_fiber();
    deep(i);
    if (i % 2) free(block);
  }
  Fiber* self = running();
  setcontext(self->home);
}

struct Half {
  Fiber fibers[kFibers];
  void* stacks[kFibers];
};
static Half halves[kThreads];

static void resume(Fiber& fiber) {
  ucontext_t home;
  fiber.home = &home;
  current = &fiber;
  swapcontext(&home, &fiber.context);
}
SITE void* run_yields(void* argument) {
  auto* half = static_cast<Half*>(argument);
  for (int i = 0; i < kYields / 2; i++)
    for (Fiber& fiber : half->fibers) resume(fiber);
  return nullptr;
}
static void on_both_threads(bool crosswise) {
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; i++)
    pthread_create(&threads[i], nullptr, run_yields, &halves[crosswise ? kThreads - 1 - i : i]);
  for (pthread_t thread : threads) pthread_join(thread, nullptr);
}

int main() {
  for (Half& half : halves)
    for (int i = 0; i < kFibers; i++) {
      getcontext(&half.fibers[i].context);
      half.stacks[i] = site_fiber_stack();
      half.fibers[i].context.uc_stack.ss_sp = half.stacks[i];
      half.fibers[i].context.uc_stack.ss_size = kStack;
      half.fibers[i].context.uc_link = nullptr;
      makecontext(&half.fibers[i].context, body, 0);
    }
  on_both_threads(false);
  on_both_threads(true);   // goes on where another thread stopped
  for (Half& half : halves)
    for (int i = 0; i < kFibers; i++) {
      resume(half.fibers[i]);   // the end of body
      free(half.stacks[i]);
    }
  int fibers = kThreads * kFibers;
  expect("site_fiber_stack", fibers, kStack, fibers);
  expect("site_in_fiber", fibers * kYields, 208, fibers * kYields / 2);
  expect_callers("site_in_fiber", "body");
  expect("site_deep_in_fiber", fibers * kYields, 240, fibers * kYields);
}
