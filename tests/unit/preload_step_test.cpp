#include "preload/stacks/step.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "preload/base/memory.h"

namespace tidemark::stacks {
namespace {
using namespace format;

constexpr Rule with_offset(uint16_t kind, int64_t words) { return uint64_t(words) << 48 | kind; }

// Where a frame starts, unwind data say; that they are wrong may mean that somebody writes there.
TEST(StepTest, WhatWasCheckedIsWhatIsUsed) {
  alignas(4096) static address stack[2048]{};   // of several pages: the kernel is asked in between
  address there = reinterpret_cast<address>(stack + 1500), nowhere = 0x20;
  stack[0] = there;
  std::atomic<bool> over{false};
  std::thread writer([&] {
    while (!over) {
      __atomic_store_n(&stack[0], nowhere, __ATOMIC_RELAXED);
      __atomic_store_n(&stack[0], there, __ATOMIC_RELAXED);
    }
  });
  uint32_t stepped = 0, refused = 0, wrong = 0;
  for (uint32_t i = 0; i < 20'000'000 && (i < 200'000 || !stepped || !refused); i++) {
    address pc = 1, sp = reinterpret_cast<address>(stack + 1), rbp = reinterpret_cast<address>(stack);
    bool signal = true, away = false;
    if (step(with_offset(kRuleDeref, 0), pc, sp, rbp, signal, away)) {
      stepped++;
      wrong += sp != there || signal;
    } else {
      refused++;
    }
  }
  over = true;
  writer.join();
  EXPECT_EQ(0u, wrong);
  EXPECT_GT(stepped, 0u);
  EXPECT_GT(refused, 0u);
}

}  // namespace
}  // namespace tidemark::stacks
