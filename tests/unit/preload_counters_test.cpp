// Counters per stack: who owns them, who shares them, what they tell of peaks and lifetimes.
#include <algorithm>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "preload/heap/counters.h"
#include "tests/unit/preload_fixture.h"

namespace tidemark {
namespace {
using namespace format;

StackRecord& record(uint32_t id) { return *base::line<StackRecord>(id); }

TEST_F(CoreTest, OneThreadCountsExactlyAndKnowsThePeak) {
  heap::attach_thread();
  uint32_t s = some_stack(1);
  heap::count_allocation(s, 100);
  heap::count_allocation(s, 50);
  heap::count_free(s, 100, 0);
  heap::count_allocation(s, 70);
  EXPECT_EQ(3u, record(s).allocated_count);
  EXPECT_EQ(220u, record(s).allocated_bytes);
  EXPECT_EQ(1u, record(s).freed_count);
  EXPECT_EQ(150u, record(s).peak_live_bytes);
  EXPECT_EQ(0u, record(s).shared);
  EXPECT_EQ(120, base::header().live_bytes);
  EXPECT_EQ(150u, base::header().peak_live_bytes);
}

TEST_F(CoreTest, ManyThreadsOnOneStackLoseNothing) {
  heap::attach_thread();
  uint32_t s = some_stack(2);
  std::vector<std::thread> threads;
  for (int t = 0; t < 6; t++)
    threads.emplace_back([&] {
      heap::attach_thread();
      for (int i = 0; i < 20'000; i++) {
        heap::count_allocation(s, 24);
        if (i % 2) heap::count_free(s, 24, 0);
      }
      heap::detach_thread();
    });
  for (auto& t : threads) t.join();
  heap::Live live = heap::live_of(&record(s));
  EXPECT_EQ(60'000, live.count);
  EXPECT_EQ(60'000 * 24, live.bytes);
  EXPECT_GE(record(s).peak_live_bytes + missed_peak(24, 6), uint64_t(live.bytes));
  EXPECT_LE(record(s).peak_live_bytes, 6 * 20'000u * 24);
  EXPECT_EQ(live.bytes, heap::total_live());
  heap::count_allocation(s, kPeakAtOnce);
  EXPECT_GE(record(s).peak_live_bytes, uint64_t(live.bytes)) << "a large one is looked at when it comes";
}

// Threads that live at the same time, one doing something at a time.
class Threads {
 public:
  explicit Threads(uint32_t n) : turn_(n) {
    for (uint32_t i = 0; i < n; i++) threads_.emplace_back([this, i] { serve(i); });
  }
  ~Threads() {
    for (uint32_t i = 0; i < threads_.size(); i++)
      if (threads_[i].joinable()) end(i);
  }
  void in(uint32_t i, std::function<void()> act) {
    std::unique_lock lock(mutex_);
    act_ = std::move(act);
    turn_ = i;
    changed_.notify_all();
    changed_.wait(lock, [&] { return turn_ == threads_.size(); });
  }
  void end(uint32_t i) {
    in(i, {});
    threads_[i].join();
  }

 private:
  void serve(uint32_t i) {
    std::unique_lock lock(mutex_);
    heap::attach_thread();
    for (bool more = true; more;) {
      changed_.wait(lock, [&] { return turn_ == i; });
      more = bool(act_);
      if (more) act_();
      else heap::detach_thread();
      turn_ = uint32_t(threads_.size());
      changed_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::function<void()> act_;
  uint32_t turn_;   // whose it is; as many as there are threads: nobody's
  std::vector<std::thread> threads_;
};

TEST_F(CoreTest, FourThreadsOfAStackHaveCountersOfTheirOwnAndFurtherOnesShareThoseOfAStripe) {
  uint32_t s = some_stack(4);
  Threads threads(6);
  auto count = [&](uint32_t thread, uint64_t bytes) { threads.in(thread, [=] { heap::count_allocation(s, bytes); }); };
  std::set<uint32_t> wanted;   // stripes, by those who do not own the record
  for (uint32_t i = 1; i < 6; i++) threads.in(i, [&] { wanted.insert(heap::slot_number(base::thread_state.owner) % (kStripes - 1)); });
  ASSERT_EQ(kStripes - 1, wanted.size()) << "threads that begin one after the other have slots side by side";
  for (uint32_t i = 0; i < 6; i++) count(i, 10 + i);
  for (uint32_t i = 0; i < 6; i++) threads.in(i, [&] { heap::count_free(s, 10 + i, 0); });
  const SharedCounters* stripes = base::line<SharedCounters>(record(s).shared);
  EXPECT_EQ(1u, record(s).allocated_count);
  std::set<uint32_t> owners{record(s).owner};
  uint64_t own = 0;
  for (uint32_t i = 1; i < kStripes; i++) {
    EXPECT_EQ(stripes[i].owner ? 1u : 0u, stripes[i].allocated_count);
    EXPECT_EQ(stripes[i].allocated_bytes, stripes[i].freed_bytes);
    if (stripes[i].owner) {
      EXPECT_TRUE(owners.insert(stripes[i].owner).second) << "two stripes are one thread's";
    }
    own += stripes[i].allocated_count;
  }
  EXPECT_EQ(kStripes - 1, own);
  EXPECT_EQ(2u, stripes[0].allocated_count);
  EXPECT_EQ(2u, stripes[0].freed_count);
  EXPECT_EQ(0u, stripes[0].owner);
  EXPECT_EQ(0, heap::live_of(&record(s)).bytes);
  EXPECT_EQ(0, heap::live_of(&record(s)).count);
}

TEST_F(CoreTest, AStripeIsTakenOverWhenItsThreadHasEnded) {
  heap::attach_thread();
  uint32_t s = some_stack(5);
  heap::count_allocation(s, 8);
  Threads threads(1);
  threads.in(0, [=] { heap::count_free(s, 8, 0); });
  SharedCounters* stripes = base::line<SharedCounters>(record(s).shared);
  SharedCounters* stripe = std::find_if(stripes + 1, stripes + kStripes, [](auto& c) { return c.owner != 0; });
  ASSERT_NE(stripes + kStripes, stripe);
  uint32_t first = stripe->owner;
  threads.end(0);
  Threads others(1);   // with the slot of the one that ended
  others.in(0, [=] { heap::count_allocation(s, 24); });
  EXPECT_NE(first, stripe->owner);
  EXPECT_EQ(1u, stripe->allocated_count);
  EXPECT_EQ(1u, stripe->freed_count);
  EXPECT_EQ(0u, stripes[0].allocated_count);
  EXPECT_EQ(24, heap::live_of(&record(s)).bytes);
}

SharedCounters* stripe_of_its_own(const StackRecord& r) {
  SharedCounters* stripes = base::line<SharedCounters>(r.shared);
  return std::find_if(stripes + 1, stripes + kStripes, [](auto& c) { return c.owner != 0; });
}

TEST_F(CoreTest, WhereAThreadSharesAStackItAsksOnceATickWhoOwnsIt) {
  uint32_t s = some_stack(5), other = some_stack(6);
  Threads threads(2);
  threads.in(0, [=] { heap::count_allocation(s, 8), heap::count_allocation(other, 8); });
  auto there = [&](auto act) { threads.in(1, act); };
  there([=] { heap::count_allocation(s, 24); });
  uint32_t owner = record(s).owner;
  SharedCounters* stripe = stripe_of_its_own(record(s));
  threads.end(0);
  there([=] { heap::count_allocation(s, 24), heap::count_free(s, 24, 0); });
  EXPECT_EQ(owner, record(s).owner) << "whose owner has ended, but that was not asked";
  EXPECT_EQ(2u, stripe->allocated_count);
  EXPECT_EQ(1u, stripe->freed_count);
  base::header().tick++;
  there([=] { heap::count_free(other, 8, 0), heap::count_allocation(s, 24); });
  EXPECT_NE(owner, record(s).owner) << "taken over";
  EXPECT_EQ(2u, stripe->allocated_count);
  EXPECT_EQ(3, heap::live_of(&record(s)).count);
}

TEST_F(CoreTest, AnAllocationInAStripeTellsTheRecordItsTickThoughAFreeCameFirst) {
  uint32_t s = some_stack(5);
  Threads threads(2);
  threads.in(0, [=] { heap::count_allocation(s, 8); });
  base::header().tick = 5;
  threads.in(1, [=] { heap::count_free(s, 8, 0); });
  EXPECT_EQ(0u, record(s).last_tick);
  threads.in(1, [=] { heap::count_free(s, 8, 0), heap::count_allocation(s, 8), heap::count_allocation(s, 8); });
  EXPECT_EQ(5u, record(s).last_tick);
  EXPECT_EQ(2u, stripe_of_its_own(record(s))->freed_count);
  EXPECT_EQ(2u, stripe_of_its_own(record(s))->allocated_count);
}

TEST_F(CoreTest, StacksWhoseStripesAreNotedAtOnePlaceAreTold) {
  Threads threads(2);
  std::vector<uint32_t> all;
  for (uint32_t n = 0; n < 3 * heap::kNotedStripes; n++) all.push_back(some_stack(n));
  threads.in(0, [&] { for (uint32_t s : all) heap::count_allocation(s, 8); });
  threads.in(1, [&] {
    for (int i = 0; i < 3; i++)
      for (uint32_t s : all) heap::count_allocation(s, s), heap::count_free(s, s, 0);
  });
  for (uint32_t s : all) {
    EXPECT_EQ(3u, stripe_of_its_own(record(s))->allocated_count);
    EXPECT_EQ(3u * s, stripe_of_its_own(record(s))->allocated_bytes);
    EXPECT_EQ(3u * s, stripe_of_its_own(record(s))->freed_bytes);
  }
}

TEST_F(CoreTest, WhatIsCountedAtTheOverflowRecordIsCountedOnceMoreEachTime) {
  uint32_t s = base::header().overflow_stack = some_stack(5);
  record(s).owner = heap::kNeverOwned;
  heap::attach_thread();
  for (int i = 0; i < 3; i++) heap::count_allocation(s, 8);
  EXPECT_EQ(3u, base::header().coverage[kOverflowAllocations]);
  EXPECT_EQ(24u, base::header().coverage[kOverflowBytes]);
}

TEST_F(CoreTest, AThreadThatComesAgainHasNoStripeNoted) {
  uint32_t s = some_stack(5);
  Threads threads(2);
  threads.in(0, [=] { heap::count_allocation(s, 8); });
  threads.in(1, [=] { heap::count_allocation(s, 8), heap::detach_thread(); });
  SharedCounters* stripe = stripe_of_its_own(record(s));
  threads.in(1, [=] { heap::attach_thread(), heap::count_allocation(s, 8); });
  EXPECT_EQ(2u, stripe->allocated_count) << "it has the same slot";
  uint32_t now = stripe->owner;
  threads.in(1, [] { heap::detach_thread(), heap::attach_thread(); });
  threads.in(1, [=] { heap::count_allocation(s, 8); });
  EXPECT_NE(now, stripe->owner) << "it asked whose it is";
  EXPECT_EQ(3u, stripe->allocated_count);
}

TEST_F(CoreTest, ASharedStacksPeakIsLookedAtWhenAThreadsOwnCountersHaveRisen) {
  heap::attach_thread();
  uint32_t s = some_stack(6);
  Threads threads(1);
  heap::count_allocation(s, 100);
  auto there = [&](auto act) { threads.in(0, act); };
  there([=] { heap::count_allocation(s, 100); });
  EXPECT_EQ(100u, record(s).peak_live_bytes) << "one block more is not worth a look";
  for (int i = 0; i < 100; i++) there([=] { heap::count_allocation(s, 100), heap::count_free(s, 100, 0); });
  EXPECT_EQ(100u, record(s).peak_live_bytes) << "pairs do not rise";
  for (uint32_t i = 2; i < kPeakEvery; i++) there([=] { heap::count_allocation(s, 100); });
  EXPECT_EQ(100u, record(s).peak_live_bytes);
  there([=] { heap::count_allocation(s, 100); });
  EXPECT_EQ(100u + kPeakEvery * 100, record(s).peak_live_bytes);

  // Frees do not look; what rises again from there does.
  for (uint32_t i = 0; i < kPeakEvery; i++) there([=] { heap::count_free(s, 100, 0); });
  for (uint32_t i = 0; i < 3 * kPeakEvery; i++) heap::count_allocation(s, 100);
  EXPECT_GE(record(s).peak_live_bytes + kPeakEvery * 100, 100u + 3 * kPeakEvery * 100) << "the owner's own rise";
  for (uint32_t i = 0; i < kPeakEvery; i++) there([=] { heap::count_allocation(s, 100); });
  EXPECT_EQ(100u + 4 * kPeakEvery * 100, record(s).peak_live_bytes);
  there([=] { heap::count_allocation(s, 100); });
  EXPECT_EQ(100u + 4 * kPeakEvery * 100, record(s).peak_live_bytes) << "a look is enough for a while";
}

TEST_F(CoreTest, ADeadOwnersStackIsTakenOver) {
  uint32_t s = some_stack(3);
  std::thread([&] { heap::attach_thread(); heap::count_allocation(s, 8); heap::detach_thread(); }).join();
  heap::attach_thread();
  heap::count_allocation(s, 8);
  EXPECT_EQ(base::thread_state.owner, record(s).owner);
  EXPECT_EQ(0u, record(s).shared);
  EXPECT_EQ(2u, record(s).allocated_count);
}

TEST_F(CoreTest, AnOldDeathEarnsADetail) {
  heap::attach_thread();
  uint32_t s = some_stack(4);
  for (int i = 0; i < 3; i++) heap::count_allocation(s, 8);
  heap::count_free(s, 8, kDetailAgeTicks - 1);
  EXPECT_EQ(0u, record(s).detail);
  heap::count_free(s, 8, kDetailAgeTicks);
  ASSERT_NE(0u, record(s).detail);
  const Detail& d = *base::line<Detail>(record(s).detail);
  EXPECT_EQ(s, d.stack);
  EXPECT_EQ(1u, d.lifetime[lifetime_bucket(kDetailAgeTicks)]);
  EXPECT_EQ(kDetailAgeTicks, d.max_age_ticks);
}

TEST_F(CoreTest, WhereThereIsNoRoomADetailIsDeniedOncePerStack) {
  uint32_t one = some_stack(31), other = some_stack(32);
  while (base::take_lines(PageKind::kDetails, sizeof(Detail) / kLineBytes)) continue;
  for (int walk = 0; walk < 3; walk++) {
    EXPECT_EQ(0u, heap::grant_detail(base::line<StackRecord>(one), one, heap::Reason::kExpired));
    EXPECT_EQ(0u, heap::grant_detail(base::line<StackRecord>(other), other, heap::Reason::kOldFree));
  }
  EXPECT_EQ(2u, base::header().coverage[kDetailsDenied]);
}

const StackPage& page_of(uint32_t id) {
  return *reinterpret_cast<const StackPage*>(reinterpret_cast<uintptr_t>(base::line<StackRecord>(id)) & ~uintptr_t{kPageBytes - 1});
}
bool deaths_lost(uint32_t id) {
  uint32_t line = (id - base::store.first_line) % kLinesPerPage;
  return page_of(id).deaths_lost[line / 32] >> line % 32 & 1;
}

TEST_F(CoreTest, HalfOfAllDetailsAreForStacksThatHoldMuch) {
  heap::attach_thread();
  uint32_t small = some_stack(33), large = some_stack(34);
  while (!base::is_half_taken(PageKind::kDetails)) ASSERT_NE(0u, base::take_lines(PageKind::kDetails, sizeof(Detail) / kLineBytes));
  heap::count_allocation(large, 10 << 20);
  for (int i = 0; i < 5; i++) heap::count_allocation(small, 100);
  for (int i = 0; i < 3; i++) heap::count_free(small, 100, kDetailAgeTicks);
  EXPECT_EQ(0u, record(small).detail);
  EXPECT_TRUE(deaths_lost(small));
  EXPECT_EQ(1u, base::header().coverage[kDetailsDenied]);
  EXPECT_EQ(3u, base::header().coverage[kDetailDeathsLost]);
  heap::count_free(large, 10 << 10, kDetailAgeTicks);
  EXPECT_NE(0u, record(large).detail);
  EXPECT_FALSE(deaths_lost(large));

  heap::count_allocation(small, 11 << 10);   // now it is more than a 1024th of all
  heap::count_free(small, 100, kDetailAgeTicks);
  ASSERT_NE(0u, record(small).detail);
  EXPECT_EQ(0u, base::header().coverage[kDetailsDenied]);
  EXPECT_TRUE(deaths_lost(small)) << "of three nobody knows how long they lived";
  const Detail& d = *base::line<Detail>(record(small).detail);
  EXPECT_EQ(3u, d.deaths_before);
  EXPECT_EQ(1u, d.lifetime[lifetime_bucket(kDetailAgeTicks)]);
}

}  // namespace
}  // namespace tidemark
