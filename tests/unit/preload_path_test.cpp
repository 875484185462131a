#include "preload/stacks/path.h"

#include <alloca.h>
#include <execinfo.h>
#include <pthread.h>

#include <algorithm>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "preload/stacks/cache.h"
#include "preload/stacks/rules.h"
#include "preload/stacks/walk.h"
#include "tests/unit/preload_fixture.h"

namespace tidemark::stacks {
namespace {
using namespace format;

class PathTest : public CoreTest {
 protected:
  void SetUp() override {
    CoreTest::SetUp();
    know_own_stack();
  }
};

// What is known without the path, from the first frame to the last.
uint32_t walked_alone(const Caller& c) {
  base::thread_state.path = nullptr;
  uint32_t leaf = walk(c.pc, c.sp, c.rbp);
  base::thread_state.path = &own_path();
  return leaf;
}
uint32_t leaf_of(uint32_t stack) { return base::line<StackRecord>(stack)->leaf_and_kind & 0xffffff; }

std::vector<address> frames(uint32_t leaf) {
  std::vector<address> pcs(kMaxDepth);
  bool cut;
  uint32_t trusted;
  pcs.resize(frames_of(leaf, pcs.data(), kMaxDepth, cut, trusted));
  return pcs;
}
// Whose frame sizes turned out to vary, it may be known in more ways than one: the path has another than a walk comes to.
bool varies(uint32_t leaf) {
  return std::ranges::any_of(frames(leaf), [](address pc) { return rule_of(pc) & kSizeVaries; });
}
bool same_stack(uint32_t a, uint32_t b) { return a == b || (varies(a) && frames(a) == frames(b)); }

// Whether the stack's frames are those that glibc finds: the inner ones as well as the outer ones.
bool as_backtrace_finds(const Caller& c, uint32_t stack) {
  constexpr int kMost = 256;
  void* theirs[kMost];
  address ours[kMost];
  bool cut;
  uint32_t trusted, n = frames_of(leaf_of(stack), ours, kMost, cut, trusted);
  int all = backtrace(theirs, kMost), skip = 0;
  while (skip < all && reinterpret_cast<address>(theirs[skip]) != c.pc) skip++;
  return !cut && n == uint32_t(all - skip) && std::equal(ours, ours + n, reinterpret_cast<address*>(theirs + skip));
}

struct Tally {
  bool by_backtrace = false;   // no other walk between those by the path
  uint32_t looks = 0, wrong = 0, by_path = 0;
  std::set<uint32_t> stacks;
};
thread_local Tally tally;

__attribute__((noinline)) void look() {
  Caller c = HERE;
  Sight sight;
  uint32_t frames = own_path().count, stack = walk_to_stack(c, sight);
  tally.looks++;
  if (!stack) return;
  tally.by_path += frames != 0;
  tally.stacks.insert(stack);
  if (tally.by_backtrace ? !as_backtrace_finds(c, stack) : !same_stack(leaf_of(stack), walked_alone(c))) tally.wrong++;
}

// A tree of calls, drawn by chance: frames of fixed sizes, small and large, and of sizes that only rbp tells; the function that called last calls
// again, from the same place or from another one.
using Chance = std::minstd_rand;
void grow(Chance& chance, int depth);

__attribute__((noinline)) void plain(Chance& chance, int depth) {
  grow(chance, depth);
  asm volatile("");
}
__attribute__((noinline)) void from_two_places(Chance& chance, int depth) {
  grow(chance, depth);
  asm volatile("");
  grow(chance, depth - 1);
  asm volatile("");
}
__attribute__((noinline)) void large(Chance& chance, int depth) {
  volatile char room[5000];
  room[0] = 0;
  grow(chance, depth);
  room[sizeof(room) - 1] = 0;
}
__attribute__((noinline)) void sized(Chance& chance, int depth) {
  size_t bytes = 64 + chance() % 4 * 64;
  auto* room = static_cast<volatile char*>(alloca(bytes));
  room[0] = 0;
  grow(chance, depth);
  room[bytes - 1] = 0;
}
__attribute__((noinline, optimize("no-omit-frame-pointer"))) void with_frame_pointer(Chance& chance, int depth) {
  grow(chance, depth);
  asm volatile("");
}
struct alignas(64) Aligned {
  char bytes[64];
};
__attribute__((noinline)) void realigned(Chance& chance, int depth) {
  [[maybe_unused]] volatile Aligned room;
  room.bytes[0] = char(depth);
  grow(chance, depth);
  room.bytes[1] = 0;
}

__attribute__((noinline)) void grow(Chance& chance, int depth) {
  static void (*const kinds[])(Chance&, int) = {plain, from_two_places, large, sized, with_frame_pointer, realigned};
  if (depth <= 0) return;
  look();
  for (uint32_t calls = 1 + chance() % 2; calls; calls--) kinds[chance() % std::size(kinds)](chance, depth - 1);
  look();
}

TEST_F(PathTest, GivesTheStackThatAWalkFromTheStartGives) {
  Chance chance(1);
  tally = {};
  grow(chance, 11);
  EXPECT_GT(tally.looks, 1000u);
  EXPECT_EQ(tally.looks, tally.by_path + 1);
  EXPECT_GT(tally.stacks.size(), tally.looks / 8);
  EXPECT_EQ(0u, tally.wrong);
}

TEST_F(PathTest, GivesTheFramesThatAreThere) {
  tally = {};
  tally.by_backtrace = true;
  for (uint32_t seed : {2, 2, 3, 2, 4, 3, 5, 2, 6}) {   // known stacks and new ones in turns
    Chance chance(seed);
    for (volatile int again = 0; again < 4; again = again + 1) grow(chance, 7);
  }
  EXPECT_GT(tally.looks, 1000u);
  EXPECT_EQ(0u, tally.wrong);
}

bool same_stacks(const std::set<uint32_t>& a, const std::set<uint32_t>& b) {
  auto key = [](uint32_t stack) { return std::pair(varies(leaf_of(stack)) ? 0 : stack, frames(leaf_of(stack))); };
  auto keys = [&key](const std::set<uint32_t>& stacks) {
    std::set<std::pair<uint32_t, std::vector<address>>> all;
    for (uint32_t stack : stacks) all.insert(key(stack));
    return all;
  };
  return keys(a) == keys(b);
}

TEST_F(PathTest, ThreadsHaveTheirOwnAndShareWhatTheyFind) {
  std::vector<std::thread> threads;
  std::vector<Tally> found(4);
  for (auto& mine : found)
    threads.emplace_back([&found, &mine] {
      know_own_stack();
      tally = {};
      for (uint32_t seed = 1; seed < 4; seed++) {
        Chance chance(seed);
        grow(chance, 9);
        if (&mine == found.data() && seed == 2) empty_caches();
      }
      mine = tally;
    });
  for (auto& thread : threads) thread.join();
  for (auto& t : found) {
    EXPECT_EQ(0u, t.wrong);
    EXPECT_TRUE(same_stacks(found[0].stacks, t.stacks)) << "the same calls";
  }
}

TEST_F(PathTest, IsForgottenWithAModule) {
  Chance chance(1);
  grow(chance, 3);
  ASSERT_GT(own_path().count, 0u);
  address sp = own_path().sp(own_path().count - 1);
  EXPECT_GT(still_there(own_path(), sp), 0u);
  empty_caches();
  EXPECT_EQ(0u, still_there(own_path(), sp));
}

// ---------------------------------------------------------------- what is compared, on a stack made by hand
bool append_one(Path& path, const Frame& f) {
  uint32_t before = path.count;
  append(path, &f, 1);
  return path.count == before + 1;
}

class HandMade : public testing::Test {
 protected:
  // Frames of 4 words each, from the outermost on; change: what is particular in frame i.
  void make(uint32_t frames, void (*change)(Frame& f, uint32_t i) = [](Frame&, uint32_t) {}) {
    path_ = {};
    path_.epoch = path_epoch();
    for (uint32_t i = 0; i < frames; i++) {
      Frame f{};
      f.sp = sp_of(i);
      f.word = 0x1000 + i;
      f.fixed = true;
      change(f, i);
      put(f.sp - 8, f.word & format::kPcMask);
      ASSERT_TRUE(append_one(path_, f));
    }
  }
  // Of a realigned frame, in the word further out than its sp.
  static void cfa_is_kept(Frame& f) {
    f.kept.rule = format::kRuleDeref;
    f.rbp = f.sp - 8;
    f.uses_rbp = true;
    f.word |= uint64_t{2} << 48;
  }
  address sp_of(uint32_t i) { return reinterpret_cast<address>(&words_[kWords]) - 8 * (4 * i + 1); }
  void put(address a, uint64_t value) { *reinterpret_cast<uint64_t*>(a) = value; }

  static constexpr uint32_t kWords = 640, kFrames = 150;   // more than two parts
  uint64_t words_[kWords] = {};
  Path path_;
};

TEST_F(HandMade, EveryReturnAddressIsCompared) {
  for (uint32_t changed = 0; changed + 1 < kFrames; changed++) {
    make(kFrames);
    ASSERT_EQ(kFrames, still_there(path_, sp_of(kFrames - 1)));
    put(sp_of(changed) - 8, 0x1000 + changed + 1);
    EXPECT_EQ(changed + 1, still_there(path_, sp_of(kFrames - 1)));
  }
}

TEST_F(HandMade, TheMarkOfACloserLookIsNoPartOfAReturnAddress) {
  for (bool closer : {false, true}) {
    auto realigned = [](Frame& f, uint32_t i) {
      if (i) cfa_is_kept(f);
    };
    for (uint32_t changed = 0; changed + 1 < kFrames; changed++) {
      if (closer) make(kFrames, realigned);
      else make(kFrames);
      for (uint32_t i = 1; i < kFrames; i++) put(sp_of(i) + 8, sp_of(i - 1));
      ASSERT_EQ(kFrames, still_there(path_, sp_of(kFrames - 1)));
      put(sp_of(changed) - 8, (0x1000 + changed) | kLookCloser);
      EXPECT_EQ(changed + 1, still_there(path_, sp_of(kFrames - 1))) << closer;
    }
  }
}

TEST_F(HandMade, WhatLiesFurtherInThanTheCallerIsGone) {
  make(kFrames);
  EXPECT_EQ(5u, still_there(path_, sp_of(4)));
  EXPECT_EQ(5u, still_there(path_, sp_of(4) - 8));
  EXPECT_EQ(4u, still_there(path_, sp_of(4) + 8));
  EXPECT_EQ(0u, still_there(path_, sp_of(0) + 8));
}

TEST_F(HandMade, SavedRbpCountsOnlyWhereAFrameDependsOnIt) {
  for (bool depends : {false, true}) {
    auto passed_on_by_3 = [](Frame& f, uint32_t i) {
      f.rbp = f.sp + 32 * i;   // the same in each
      if (i == 4) f.kept.rbp_saved = 8;
    };
    auto used_by_2 = [](Frame& f, uint32_t i) {
      f.rbp = f.sp + 32 * i;   // the same in each
      f.uses_rbp = i == 2;
      if (i == 4) f.kept.rbp_saved = 8;
    };
    if (depends) make(6, used_by_2);
    else make(6, passed_on_by_3);
    put(sp_of(4), sp_of(0));
    EXPECT_EQ(6u, still_there(path_, sp_of(5)));
    put(sp_of(4), sp_of(0) + 8);
    EXPECT_EQ(depends ? 4u : 6u, still_there(path_, sp_of(5)));
    EXPECT_EQ(depends, path_.frame(3).needs_rbp);
    EXPECT_FALSE(path_.frame(4).needs_rbp);
  }
}

TEST_F(HandMade, WhereARealignedFrameStartsIsCompared) {
  make(3, [](Frame& f, uint32_t i) {
    if (i == 2) cfa_is_kept(f);
  });
  put(sp_of(2) + 8, sp_of(1));
  EXPECT_EQ(3u, still_there(path_, sp_of(2)));
  put(sp_of(2) + 8, sp_of(1) + 16);
  EXPECT_EQ(2u, still_there(path_, sp_of(2)));
}

TEST_F(HandMade, ItEndsWhereItsOutermostReturnAddressIsNone) {
  make(3);
  path_.end_at = reinterpret_cast<address>(&words_[kWords - 1]);
  for (address none : {0, 1, 4095}) {   // as of a greenlet: no code lies in the first page
    put(path_.end_at, none);
    EXPECT_EQ(3u, still_there(path_, sp_of(2))) << none;
  }
  put(path_.end_at, 4096);
  EXPECT_EQ(0u, still_there(path_, sp_of(2)));
}

TEST_F(HandMade, WhatLiesGigabytesAwayIsNotKept) {
  path_ = {};
  Frame f{};
  f.sp = 1 << 20;
  f.fixed = f.uses_rbp = true;
  f.rbp = f.sp - 8 + INT32_MAX;
  EXPECT_TRUE(append_one(path_, f));
  EXPECT_EQ(f.rbp, path_.rbp(0));
  f.rbp++;
  EXPECT_FALSE(append_one(path_, f));
  f.uses_rbp = false;
  f.kept.rbp_saved = 8;
  EXPECT_TRUE(append_one(path_, f)) << "it does not matter where rbp is";
}

TEST_F(HandMade, IsNeverLongerThanItsRoom) {
  path_ = {};
  Frame f{};
  f.sp = 1 << 20;
  for (uint32_t i = 0; i < kMostPathFrames; i++, f.sp -= 16) {
    f.fixed = true;
    ASSERT_TRUE(append_one(path_, f));
  }
  EXPECT_FALSE(append_one(path_, f));
  path_.count = 1;
  EXPECT_TRUE(append_one(path_, f));
  f.fixed = false;
  EXPECT_FALSE(append_one(path_, f));
}

}  // namespace
}  // namespace tidemark::stacks
