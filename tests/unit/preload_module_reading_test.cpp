// Reading what another thread may close at that moment. Mappings are made by system calls of this program's own, of which the shim's core knows what it is told.
#include "preload/stacks/module_reading.h"

#include <sys/mman.h>

#include <new>

#include "tests/unit/preload_fixture.h"

namespace tidemark {
namespace {
using stacks::ModuleReading;

class ModuleReadingTest : public CoreTest {
 protected:
  static constexpr size_t kBytes = 3 * format::kPageBytes, kPiece = 200;

  void SetUp() override {
    CoreTest::SetUp();
    void* start = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(MAP_FAILED, start);
    start_ = static_cast<uint8_t*>(start);
    for (size_t i = 0; i < kBytes; i++) start_[i] = uint8_t(i * 7 + i / 256);
  }
  void TearDown() override {
    forget();
    munmap(start_, kBytes);
    CoreTest::TearDown();
  }
  void forget() { stacks::forget_readable_pages(begin(), begin() + kBytes); }
  address begin() const { return reinterpret_cast<address>(start_); }
  uint32_t begin_to_close() { return stacks::begin_to_close(begin(), begin() + kBytes); }
  void close() { mprotect(start_, kBytes, PROT_NONE); }
  bool reads(ModuleReading& reading, size_t from, size_t bytes = kPiece) {
    uint8_t piece[kPiece];
    return reading.copy(piece, start_ + from, bytes) && memcmp(piece, start_ + from, bytes) == 0;
  }

  uint8_t* start_;
};

TEST_F(ModuleReadingTest, ReadsTheSameByItselfAndByTheKernel) {
  auto check = [&] {
    ModuleReading reading;
    for (size_t from = 0; from + kPiece <= kBytes; from += 61) EXPECT_TRUE(reads(reading, from)) << from;
    for (size_t bytes = 1; bytes <= kPiece; bytes++) EXPECT_TRUE(reads(reading, format::kPageBytes - 7, bytes)) << bytes;
  };
  check();
  uint32_t ticket = begin_to_close();
  check();
  stacks::end_to_close(ticket);
  check();
}

TEST_F(ModuleReadingTest, NothingReadsOutsideOfMemory) {
  ModuleReading reading;
  uint64_t word;
  EXPECT_FALSE(reading.copy(&word, reinterpret_cast<const void*>(~address{0} - 3), sizeof(word)));
  EXPECT_FALSE(reading.copy(&word, nullptr, sizeof(word)));
}

TEST_F(ModuleReadingTest, WhoReadsWhilePagesAreClosedBelievesNothingThatWasKnown) {
  {
    ModuleReading before;
    EXPECT_TRUE(reads(before, 0));
  }
  uint32_t ticket = begin_to_close();
  close();
  {
    ModuleReading meanwhile;
    EXPECT_FALSE(reads(meanwhile, 0));
    EXPECT_FALSE(reads(meanwhile, kBytes - kPiece));
  }
  forget();
  stacks::end_to_close(ticket);
  ModuleReading after;
  EXPECT_FALSE(reads(after, 0));
}

// As a signal handler does that interrupted who reads: to wait would be for ever.
TEST_F(ModuleReadingTest, WhoClosesInsideOfAHookDoesNotWait) {
  ModuleReading reading;
  EXPECT_TRUE(reads(reading, 0, 8));
  base::thread_state.busy = base::kBusy;
  uint32_t ticket = begin_to_close();
  base::thread_state.busy = 0;
  forget();
  EXPECT_TRUE(reads(reading, 0));
  close();
  EXPECT_FALSE(reads(reading, 0)) << "what is asked for from now on is copied by the kernel";
  stacks::end_to_close(ticket);
}

TEST_F(ModuleReadingTest, WhoReadsWhilePagesAreClosedReadsNothingBehindAFilter) {
  uint32_t ticket = begin_to_close();
  base::forbid_kernel_copies();
  {
    ModuleReading meanwhile;
    EXPECT_FALSE(reads(meanwhile, 0));
    EXPECT_TRUE(meanwhile.was_disturbed());
  }
  stacks::end_to_close(ticket);
  {
    ModuleReading after;
    EXPECT_TRUE(reads(after, 0));
    EXPECT_FALSE(after.was_disturbed());
  }
  base::permit_kernel_copies();
}

TEST_F(ModuleReadingTest, WhatIsNotThereIsNotDisturbed) {
  close();
  ModuleReading reading;
  EXPECT_FALSE(reads(reading, 0));
  EXPECT_FALSE(reading.was_disturbed());
}

// A handler jumped out of munmap.
TEST_F(ModuleReadingTest, WhoNeverEndsToCloseIsForgotten) {
  uint32_t lost = begin_to_close();
  auto known_by_itself = [&] {   // else the kernel would say that it is closed
    ModuleReading reading;
    return reads(reading, 0) && !reading.was_disturbed();
  };
  base::forbid_kernel_copies();
  EXPECT_FALSE(known_by_itself());
  stacks::forget_lost_closers();   // has seen it now
  uint32_t other = begin_to_close();
  stacks::forget_lost_closers();   // others come
  EXPECT_FALSE(known_by_itself());
  stacks::forget_lost_closers();
  EXPECT_TRUE(known_by_itself());
  stacks::end_to_close(other);
  stacks::end_to_close(lost);
  uint32_t ticket = begin_to_close();
  EXPECT_FALSE(known_by_itself()) << "those that were forgotten take nobody along";
  stacks::end_to_close(ticket);
  EXPECT_TRUE(known_by_itself());
  base::permit_kernel_copies();
}

TEST_F(ModuleReadingTest, WhoNeverEndsToReadIsWaitedForOnce) {
  alignas(ModuleReading) char room[sizeof(ModuleReading)];
  auto* jumped_away = new (room) ModuleReading;
  EXPECT_TRUE(reads(*jumped_away, 0));
  for (int i = 0; i < 100'000; i++) stacks::end_to_close(begin_to_close());   // 10 ms each would take a quarter of an hour, and the test's time
  jumped_away->~ModuleReading();
  ModuleReading other;
  EXPECT_TRUE(reads(other, 0));
}

}  // namespace
}  // namespace tidemark
