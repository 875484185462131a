#include <cstring>
#include <thread>
#include <vector>

#include "preload/keeper/ageing.h"
#include "preload/keeper/session.h"
#include "tests/unit/preload_fixture.h"

namespace tidemark {
namespace {
using namespace format;

class AgeingTest : public CoreTest {
 protected:
  static constexpr size_t kSize = 100;
  static constexpr int kEnough = int(sizeof(Detail) / kSize) + 1;   // blocks that hold as much as a Detail takes

  void SetUp() override {
    CoreTest::SetUp();
    open_store(kBytes, 1 << 20);   // ids that no record of another test has
    heap::attach_thread();
    stack_ = some_stack(1);
  }
  void TearDown() override {
    release(int(blocks_.size()));   // or the next test meets them under the same ids
    CoreTest::TearDown();
  }

  void at_tick(uint32_t tick) { base::header().tick = tick; }
  void allocate(int blocks) {
    for (int i = 0; i < blocks; i++) {
      blocks_.push_back(tmje_malloc(kSize));
      heap::attach(blocks_.back(), kSize, heap::size8_of(kSize), stack_);
    }
  }
  void release(int blocks) {
    for (int i = 0; i < blocks; i++) {
      heap::detach(blocks_.back());
      tmje_free(blocks_.back());
      blocks_.pop_back();
    }
  }
  // A walk is skipped where the last one was dear and not long ago.
  void walk(uint32_t tick) {
    at_tick(tick);
    while (base::header().coverage[kLastWalkTick] != tick) keeper::age_blocks();
  }
  const Detail& detail() { return *base::line<Detail>(heap::grant_detail(base::line<StackRecord>(stack_), stack_, heap::Reason::kExpired)); }

  std::vector<void*> blocks_;
  uint32_t stack_ = 0;
};

// A parent's large heap must not be told as its child's, nor the child's first walk wait for what its parent's cost.
TEST_F(AgeingTest, AChildOfForkKnowsNothingOfItsParentsWalks) {
  keeper::options.cache_duration = 3'600'000;
  const uint32_t later = 100 + uint32_t(keeper::options.cache_duration / 1000 + 2) * kTicksPerSecond;
  at_tick(100);
  allocate(10'000);
  walk(later);
  ASSERT_EQ(10'000 * kSize, keeper::expired_bytes());
  keeper::forget_ageing();
  EXPECT_EQ(0u, keeper::expired_bytes());
  at_tick(later + 1);
  keeper::age_blocks();
  EXPECT_EQ(later + 1, base::header().coverage[kLastWalkTick]);
}

TEST_F(AgeingTest, SurvivorsAreCountedByTheTimeOfTheirBirth) {
  at_tick(100);
  const Detail& d = detail();
  allocate(10);
  walk(200);
  EXPECT_EQ(kTicksPerSecond, d.cohort_ticks);
  EXPECT_EQ(10u, d.cohort[100 / 16]);
  allocate(3);
  release(2);   // of the young ones
  walk(220);
  EXPECT_EQ(10u, d.cohort[100 / 16]);
  EXPECT_EQ(1u, d.cohort[200 / 16]);
  walk(kTicksPerSecond * kCohorts);
  EXPECT_EQ(2 * kTicksPerSecond, d.cohort_ticks);
  EXPECT_EQ(10u, d.cohort[100 / 32]);
  EXPECT_EQ(1u, d.cohort[200 / 32]);
  EXPECT_EQ(0u, d.cohort_sequence % 2);
}

TEST_F(AgeingTest, WhatDoesNotChangeIsNotWritten) {
  at_tick(100);
  const Detail& d = detail();
  allocate(10);
  walk(200);
  Detail before;
  memcpy(&before, &d, sizeof(d));
  for (uint32_t tick = 216; tick < 1000; tick += 16) walk(tick);
  EXPECT_EQ(0, memcmp(&before, &d, sizeof(d)));
}

TEST_F(AgeingTest, TheSeriesTellsOfWhatWasNotWritten) {
  at_tick(100);
  const Detail& d = detail();
  allocate(10);
  walk(110);
  EXPECT_EQ(1u, d.series_used);
  release(4);
  walk(100 + 12 * 16);
  ASSERT_EQ(13u, d.series_used);
  for (int i = 0; i < 12; i++) EXPECT_EQ(1000u, d.series[i].last_live) << i;
  EXPECT_EQ(600u, d.series[12].last_live);
  EXPECT_EQ(600u, d.series[12].min_live);

  uint32_t late = 100 + 16 * kSeriesPoints * 4;   // three halvings later
  allocate(1);
  walk(late);
  EXPECT_EQ(16u * 8, d.series_ticks);
  ASSERT_EQ(kSeriesPoints / 2 + 1, d.series_used);
  EXPECT_EQ(1000u, d.series[0].last_live);
  EXPECT_EQ(600u, d.series[1].min_live) << "points 8 to 15 of the first ones";
  for (uint32_t i = 2; i < kSeriesPoints / 2; i++) EXPECT_EQ(600u, d.series[i].last_live) << i;
  EXPECT_EQ(700u, d.series[kSeriesPoints / 2].last_live);
}

TEST_F(AgeingTest, AStackWhoseBlocksGrowOldEarnsADetail) {
  at_tick(100);
  allocate(kEnough);
  walk(200);
  EXPECT_EQ(0u, base::line<StackRecord>(stack_)->detail);
  walk(100 + 11 * kTicksPerSecond);
  EXPECT_NE(0u, base::line<StackRecord>(stack_)->detail);
}

TEST_F(AgeingTest, LessThanADetailTakesIsNotWorthOneUntilItExpires) {
  at_tick(100);
  allocate(kEnough - 1);
  walk(100 + 11 * kTicksPerSecond);
  EXPECT_EQ(0u, base::line<StackRecord>(stack_)->detail);
  EXPECT_EQ(0u, base::header().coverage[kDetailsDenied]);
  keeper::options.cache_duration = 3'600'000;
  walk(100 + 3601 * kTicksPerSecond);
  keeper::options = {};
  EXPECT_NE(0u, base::line<StackRecord>(stack_)->detail);
}

// The walk's notes of the store before must not tell of this one's stacks, which lie in the same places.
TEST_F(AgeingTest, AnotherStoresStacksEarnDetailsOfTheirOwn) {
  at_tick(100);
  detail();
  allocate(1);
  walk(200);
  release(1);
  open_store(kBytes, 1 << 20);
  heap::attach_thread();
  ASSERT_EQ(stack_, some_stack(1));
  ASSERT_EQ(0u, base::line<StackRecord>(stack_)->detail);
  at_tick(100);
  allocate(kEnough);
  walk(100 + 11 * kTicksPerSecond);
  EXPECT_NE(0u, base::line<StackRecord>(stack_)->detail);
}

TEST_F(AgeingTest, EachSecondThePeakOfASharedStackIsLookedAt) {
  heap::count_allocation(stack_, 100);
  std::thread([this] {
    heap::attach_thread();
    heap::count_allocation(stack_, 100);
    heap::detach_thread();
  }).join();
  const StackRecord& s = *base::line<StackRecord>(stack_);
  ASSERT_NE(0u, s.shared);
  ASSERT_EQ(100u, s.peak_live_bytes) << "one block more was not worth a look";
  keeper::age_blocks();
  EXPECT_EQ(200u, s.peak_live_bytes);
  heap::count_free(stack_, 100, 0);
  heap::count_free(stack_, 100, 0);
}

}  // namespace
}  // namespace tidemark
