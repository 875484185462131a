// Blocks that a thread keeps after it freed them.
#include <cstring>
#include <thread>
#include <vector>

#include "preload/heap/magazines.h"
#include "preload/heap/page_map.h"
#include "tests/unit/preload_fixture.h"

namespace tidemark {
namespace {
using namespace format;

__attribute__((noinline)) void* block_of(size_t bytes) {
  void* p = heap::allocate(bytes, HookFrame{});
  asm volatile("");
  return p;
}
__attribute__((noinline)) void* zeroed_block_of(size_t bytes) {
  void* p = heap::allocate_zeroed(bytes, HookFrame{});
  asm volatile("");
  return p;
}
uint32_t kept() {
  uint32_t sum = 0;
  for (uint32_t m = 0; m < heap::kMagazines; m++) sum += heap::rounds_held(base::thread_state, m);
  return sum;
}
uint64_t tracked_bytes() {
  uint64_t sum = 0;
  heap::for_each_block([&](std::atomic<heap::Record>&, heap::Record, uint64_t bytes) { sum += bytes; });
  return sum;
}

class MagazineTest : public CoreTest {
 protected:
  void SetUp() override {
    CoreTest::SetUp();
    heap::attach_thread();
  }
  void TearDown() override {
    heap::empty_magazines();
    CoreTest::TearDown();
  }
};

TEST_F(MagazineTest, WhatWasFreedLastIsGivenOutFirst) {
  uint64_t before = tracked_bytes();
  for (size_t bytes = 0; bytes <= 700; bytes += 4) {
    void* p = block_of(bytes);
    EXPECT_EQ(before + bytes, tracked_bytes());
    heap::release(p);
    EXPECT_EQ(before, tracked_bytes()) << "a block that is kept is nobody's";
    uint32_t n = kept();
    void* q = block_of(bytes);
    EXPECT_EQ(bytes <= heap::kMagazineMost, q == p && kept() == n - 1) << bytes;
    EXPECT_EQ(before + bytes, tracked_bytes());
    heap::release(q);
  }
  const Header& h = base::header();
  EXPECT_EQ(0, h.live_bytes);
}

TEST_F(MagazineTest, ZeroedBlocksAreZero) {
  for (size_t bytes : {1, 16, 100, 512}) {
    void* p = block_of(bytes);
    memset(p, 0xff, bytes);
    heap::release(p);
    auto* q = static_cast<unsigned char*>(zeroed_block_of(bytes));
    EXPECT_EQ(p, q);
    for (size_t i = 0; i < bytes; i++) ASSERT_EQ(0, q[i]) << bytes;
    heap::release(q);
  }
}

TEST_F(MagazineTest, TheyHoldFewBytesAndAllClasses) {
  std::vector<void*> blocks;
  for (size_t bytes = 8; bytes <= heap::kMagazineMost; bytes += 8)
    for (int i = 0; i < 40; i++) blocks.push_back(block_of(bytes));
  for (void* p : blocks) heap::release(p);
  size_t bytes = 0;
  for (uint32_t m = 0; m < heap::kMagazines; m++) {
    const base::ThreadState& t = base::thread_state;
    uint32_t held = heap::rounds_held(t, m);
    EXPECT_EQ(heap::kMagazineTables.most[m], held) << m;
    EXPECT_LE(held, heap::kRounds);
    for (uint32_t i = 0; i < held; i++) bytes += tmje_sallocx(t.magazines->top[m][-int(i)].block, 0);
  }
  EXPECT_LE(bytes, 15u << 10);
  heap::empty_magazines();
  EXPECT_EQ(0u, kept());
  heap::release(block_of(64));
  EXPECT_EQ(0u, kept()) << "the thread ends";
}

TEST_F(MagazineTest, TheTablesAreJemallocsClasses) {
  for (size_t bytes = 1; bytes <= heap::kMagazineMost; bytes++) {
    uint32_t magazine = heap::kMagazineTables.of_size8[(bytes + 7) / 8];
    size_t usable = tmje_nallocx(bytes, 0);
    EXPECT_EQ(magazine, heap::kMagazineTables.of_size8[usable / 8]) << bytes;
    if (usable < heap::kMagazineMost) {
      EXPECT_NE(magazine, heap::kMagazineTables.of_size8[usable / 8 + 1]) << bytes;
    }
  }
}

TEST_F(MagazineTest, BlocksThatAnotherThreadFreesAreItsOwn) {
  void* p = block_of(64);
  std::thread([&] {
    base::thread_state.generation = word_;
    base::thread_state.errno_at = &errno;
    heap::attach_thread();
    heap::release(p);
    EXPECT_EQ(1u, kept());
    EXPECT_EQ(p, block_of(64));
    heap::release(p);
    heap::empty_magazines();
    heap::detach_thread();
  }).join();
  EXPECT_EQ(0u, kept());
  EXPECT_EQ(0, heap::total_live());
}

}  // namespace
}  // namespace tidemark
