#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <cstring>
#include <map>
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
  auto check = [](size_t bytes) {
    for (unsigned log2 = 0; log2 < 64; log2++) ASSERT_EQ(tmje_nallocx(bytes, int(log2)), heap::usable_of(bytes, size_t{1} << log2)) << bytes << " by " << log2;
  };
  for (size_t bytes = 1; bytes < 40'000; bytes++) check(bytes);
  for (unsigned log2 = 15; log2 < 64; log2++)
    for (size_t quarter = 4; quarter < 8; quarter++)
      for (size_t beside : {-4096, -1, 0, 1, 4096}) check((quarter << (log2 - 2)) + beside);
  check(SIZE_MAX);
}

// Its records' array is another page's at once, or has a link of the list of free ones in its first word.
TEST_F(CoreTest, AWalkLeavesAPageThatChangesItsClass) {
  constexpr address kPage = 0x1234'5678'9000;
  for (address block : {kPage, kPage + 64}) heap::record_for(block, 8)->store(heap::make_record(77, 1, 0));
  int seen = 0;
  heap::for_each_block([&](std::atomic<heap::Record>&, heap::Record r, uint64_t) {
    if (heap::stack_of_record(r) != 77) return;
    seen++;
    heap::install_page(kPage, 16);
  });
  EXPECT_EQ(1, seen);
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

TEST_F(CoreTest, WhatAThreadTouchesLiesInTwoPagesAndOfTheDeepestStacksInFour) {
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
  touch(t.stripes[0], t.stripes[heap::kNotedStripes - 1]);
  touch(t.path->count, t.path->few[stacks::kFewRecent - 1]);
  touch(t.path->returned(0), t.path->frame(kDeep - 1));
  EXPECT_EQ(2u, pages.size());
  touch(t.path->frame(0), t.path->frame(stacks::kMostPathFrames - 1));
  EXPECT_EQ(4u, pages.size());
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
  // A quarter of the range at a time, until one does not fit: what is smaller still does.
  while (heap::nested_allocate(heap::nested_bytes / 4, 16, false)) continue;
  EXPECT_NE(nullptr, heap::nested_allocate(10'000, 16, false));
}

// Else a handler that jumps out of it, in a child's grace or at a thread's first call, would leave it inside for ever.
TEST_F(CoreTest, AHookThatCameThroughTheGateIsKnownByItsFrame) {
  base::ThreadState& t = base::thread_state;
  t.generation = base::kNoSession;
  t.busy = heap::own_sp();
  EXPECT_EQ(heap::Gate::kTrack, heap::pass_gate());
  EXPECT_EQ(heap::own_sp(), t.busy);
  EXPECT_EQ(word_, t.generation);
  t.busy = 0;
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

}  // namespace
}  // namespace tidemark
