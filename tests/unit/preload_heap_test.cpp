#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "preload/heap/magazines.h"
#include "preload/heap/nested_heap.h"
#include "preload/heap/page_map.h"
#include "tests/unit/preload_fixture.h"

namespace tidemark {
namespace {
using namespace format;

StackRecord& record(uint32_t id) { return *base::line<StackRecord>(id); }

TEST_F(CoreTest, RecordsHoldWhatTheyAreGiven) {
  heap::Record r = heap::make_record(0xabcdef, 0x2345678, 777);
  EXPECT_EQ(0xabcdefu, heap::stack_of_record(r));
  EXPECT_EQ(0x2345678u & heap::kTickMask, heap::tick_of_record(r));
  EXPECT_EQ(777u, heap::rounding_of_record(r));
}

TEST_F(CoreTest, SizeClassesAreJemallocs) {
  for (size_t n = 0; n < 20'000; n++) {
    size_t usable = tmje_nallocx(n ? n : 1, 0);
    EXPECT_EQ(usable < heap::kLarge ? usable / 8 : 0, heap::size8_of(n)) << n;
  }
}

// Few pages are not given back to the kernel in order to be zero: that is a system call, and a fault for each. (Eight: what else may fault meanwhile.)
TEST(AllocatorTest, FewPagesThatAreUsedAgainAreZeroWithoutAFault) {
  auto faults = [] {
    rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_minflt;
  };
  auto resident = [](char* p, size_t bytes) {   // of its whole pages
    unsigned char pages[1024];
    char* start = p + (-reinterpret_cast<address>(p) & 4095);
    size_t n = (bytes - 4095) / 4096;
    EXPECT_EQ(0, mincore(start, n * 4096, pages));
    return std::count_if(pages, pages + n, [](unsigned char page) { return page & 1; });
  };
  auto all_zero = [](const char* p, size_t bytes) { return std::all_of(p, p + bytes, [](char c) { return c == 0; }); };
  for (size_t bytes : {64 << 10, 112 << 10, 128 << 10, 2 << 20}) {
    void* used = tmje_malloc(bytes);
    memset(used, 0xff, bytes);
    tmje_free(used);
    long before = faults();
    auto* again = static_cast<char*>(tmje_calloc(1, bytes));
    if (bytes >= 128 << 10) {
      EXPECT_EQ(0, resident(again, bytes)) << bytes << ": the kernel's business";
    }
    EXPECT_TRUE(all_zero(again, bytes)) << bytes;
    memset(again, 1, bytes);
    if (bytes < 128 << 10) {
      EXPECT_LT(faults() - before, 8) << bytes;
    }
    tmje_free(again);
  }
}

TEST_F(CoreTest, EveryBlockOfAPageHasARecordOfItsOwn) {
  for (uint32_t size : {8, 16, 48, 80, 320, 1280, 2560, 4096, 5120, 14336}) {
    std::map<void*, int> seen;
    address page = address{0x4000'0000'0000} + size * 65536;
    for (address p = page; p + size <= page + 65536; p += size) {
      auto* at = heap::record_for(p, size / 8);
      ASSERT_NE(nullptr, at);
      EXPECT_EQ(0, seen[at]++) << size;
    }
  }
}

TEST_F(CoreTest, APageThatChangesItsClassStartsEmpty) {
  address p = 0x4100'0000'0000;
  heap::record_for(p, 2)->store(heap::make_record(1, 1, 0));
  heap::record_for(p, 2)->store(0);
  EXPECT_EQ(0u, heap::record_for(p, 4)->load());
  EXPECT_EQ(4u, heap::size8_in(heap::find_entry(p)));
  EXPECT_EQ(0u, heap::find_entry(address{0x7000'0000'0000}));
}

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

TEST_F(CoreTest, WhatAThreadOfOrdinaryDepthTouchesLiesInFourPages) {
  heap::attach_thread();
  const base::ThreadState& t = base::thread_state;
  ASSERT_NE(nullptr, t.path);
  std::set<uintptr_t> pages;
  auto touch = [&](const auto& first, const auto& last) {
    for (auto page = reinterpret_cast<uintptr_t>(&first) / 4096; page <= (reinterpret_cast<uintptr_t>(&last + 1) - 1) / 4096; page++) pages.insert(page);
  };
  constexpr uint32_t kDeep = 60;
  const auto* magazines = reinterpret_cast<const heap::MagazineRoom*>(t.magazines);
  touch(*magazines, *magazines);
  touch(t.path->count, t.path->recent[stacks::kRecent - 1]);
  touch(t.path->returns[0], t.path->returns[kDeep - 1]);
  touch(t.path->frames[0], t.path->frames[kDeep - 1]);
  touch(t.path->walked[0], t.path->walked[kDeep - 1]);
  EXPECT_EQ(4u, pages.size());
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
  for (uint32_t n = 0; n < 3 * stacks::kNotedStripes; n++) all.push_back(some_stack(n));
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

// As a thread's own stack is known, a hook that was jumped out of is told from one that goes on.
TEST_F(CoreTest, AThreadsStackIsFoundWithoutAskingGlibc) {
  std::thread([&] {
    heap::learn_thread_layout();
    std::thread([&] {
      base::ThreadState& t = base::thread_state;
      base::session_word = &word_;
      t.errno_at = &errno;
      t.busy = heap::own_sp() - 4096;   // a frame further in, long gone
      EXPECT_FALSE(heap::still_inside(heap::own_sp()));
      pthread_attr_t attributes;
      void* low = nullptr;
      size_t bytes = 0;
      ASSERT_EQ(0, pthread_getattr_np(pthread_self(), &attributes));
      pthread_attr_getstack(&attributes, &low, &bytes);
      pthread_attr_destroy(&attributes);
      EXPECT_EQ(reinterpret_cast<address>(low) + bytes, t.stack_top);
      EXPECT_LE(t.stack_low, reinterpret_cast<address>(low));
      t = {};
    }).join();
  }).join();
}

TEST_F(CoreTest, NestedBlocksComeFromTheirOwnRange) {
  std::vector<void*> blocks;
  for (size_t n : {0ul, 1ul, 33ul, 4000ul, 100'000ul}) {
    void* p = heap::nested_allocate(n, 16, false);
    ASSERT_NE(nullptr, p);
    EXPECT_TRUE(heap::is_nested(p));
    EXPECT_EQ(0u, reinterpret_cast<address>(p) % 16);
    EXPECT_GE(heap::nested_usable_size(p), n);
    memset(p, 0xff, n);
    blocks.push_back(p);
  }
  EXPECT_EQ(0u, reinterpret_cast<address>(heap::nested_allocate(10, 4096, false)) % 4096);
  for (void* p : blocks) heap::nested_release(p);
  auto* again = static_cast<unsigned char*>(heap::nested_allocate(100'000, 16, true));
  for (int i = 0; i < 100'000; i++) ASSERT_EQ(0, again[i]);
  int here;
  EXPECT_FALSE(heap::is_nested(&here));
  EXPECT_EQ(nullptr, heap::nested_allocate(size_t{1} << 40, 16, false));
}

// A signal handler that interrupted a hook may leave by siglongjmp: the hook's frame is gone, and busy still set.
TEST_F(CoreTest, AHookThatWasJumpedOutOfIsForgotten) {
  base::ThreadState& t = base::thread_state;
  address here = heap::own_sp();
  t.set_stack(here - (1 << 20), here + (1 << 20));
  t.busy = here;
  EXPECT_TRUE(heap::still_inside(here - 64)) << "called from below: a handler";
  EXPECT_EQ(here, t.busy);
  EXPECT_TRUE(heap::still_inside(here + (2 << 20))) << "another stack: nothing is known";
  t.busy = base::kBusy;
  EXPECT_TRUE(heap::still_inside(here + 64)) << "one of our own calls";
  t.busy = here;
  t.internal = 1;
  EXPECT_TRUE(heap::still_inside(here + 64));
  t.internal = 0;
  EXPECT_FALSE(heap::still_inside(here));
  EXPECT_EQ(0u, t.busy);
  EXPECT_NE(word_, t.generation) << "what handlers freed meanwhile waits behind the gate";
}

// An alternate stack may be part of the ordinary one, above the interrupted frames.
address asked_on_alternate;
TEST_F(CoreTest, AHandlerOnAnAlternateStackInsideTheOrdinaryOneIsNoJump) {
  alignas(16) char room[64 << 10];
  stack_t alternate{}, before{};
  alternate.ss_sp = room;
  alternate.ss_size = sizeof(room);
  ASSERT_EQ(0, sigaltstack(&alternate, &before));
  base::ThreadState& t = base::thread_state;
  t.set_stack(heap::own_sp() - (1 << 20), heap::own_sp() + (1 << 20));
  struct sigaction action{}, old{};
  action.sa_flags = SA_ONSTACK;
  action.sa_handler = [](int) {
    base::thread_state.busy = heap::own_sp() - 4096;
    asked_on_alternate = heap::still_inside(heap::own_sp());
    base::thread_state.busy = 0;
  };
  ASSERT_EQ(0, sigaction(SIGUSR1, &action, &old));
  raise(SIGUSR1);
  EXPECT_EQ(1u, asked_on_alternate);
  sigaction(SIGUSR1, &old, nullptr);
  sigaltstack(&before, nullptr);
}

// ---------------------------------------------------------------- magazines
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
