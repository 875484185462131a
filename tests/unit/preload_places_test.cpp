// Places and the layouts of live stacks there, with AES and without.
#include <alloca.h>
#include <pthread.h>

#include <cstring>
#include <functional>
#include <iterator>
#include <map>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "preload/stacks/fingerprint.h"
#include "preload/stacks/known_stacks.h"
#include "preload/stacks/layout.h"
#include "preload/stacks/left_alone.h"
#include "preload/stacks/lookup.h"
#include "preload/stacks/path.h"
#include "preload/stacks/walk.h"
#include "tests/unit/preload_fixture.h"
#include "tests/victims/two_ways.h"

namespace tidemark {
namespace {
using namespace format;
using namespace stacks;

// With AES and without.
class PlacesTest : public CoreTest, public testing::WithParamInterface<bool> {
 protected:
  void SetUp() override {
    use_aes(GetParam());
    CoreTest::SetUp();
    know_own_stack();
  }
  void TearDown() override {
    CoreTest::TearDown();
    use_aes(true);
  }
};
std::string way_name(const testing::TestParamInfo<bool>& info) { return info.param ? "Aes" : "Products"; }
INSTANTIATE_TEST_SUITE_P(Ways, PlacesTest, testing::Bool(), way_name);

struct Seen {
  uint64_t key;
  uint32_t stack;
  bool known;   // by its place, without a walk
  bool quick;
  Place* home;
};
thread_local Seen seen;

bool known_here(const Lookup& k) {
  Place* p = find_place(*k.home, k.key);
  for (uint32_t i = 0; p && i < kGroupLines; i++) {
    Place& line = line_of(*k.home, i);
    uint64_t sum, meta = line.meta;
    if (is_of(meta, k.key) && sum_at(line, meta, k.key, k.caller, sum) && (last_stack(line, meta, sum) || known_stack(fingerprint_of(sum, line.layout)))) return true;
  }
  return false;
}

__attribute__((noinline)) void look() {
  Lookup k = begin_lookup(HERE);
  seen.known = known_here(k);
  seen.quick = is_quick(k.home->meta, k.key);
  seen.home = k.home;
  seen.key = k.key;
  seen.stack = find_stack(k);
}

// The outer function's frame takes what the inner one's leaves: whatever the split is, look() is called from one place.
template <size_t kBytes>
__attribute__((noinline)) void inner(void (*call)()) {
  [[maybe_unused]] volatile char frame[kBytes];
  frame[0] = 0;
  call();
  frame[kBytes - 1] = 0;
}
__attribute__((noinline)) void last_call() {
  look();
  asm volatile("");
}
template <size_t kBytes>
__attribute__((noinline)) void outer() {
  [[maybe_unused]] volatile char frame[4096 - kBytes];
  frame[0] = 0;
  inner<kBytes>(last_call);
  frame[4096 - kBytes - 1] = 0;
}

std::vector<address> path_of(uint32_t stack) {
  std::vector<address> pcs(4096);
  bool cut;
  uint32_t trusted;
  pcs.resize(frames_of(base::line<StackRecord>(stack)->leaf_and_kind & 0xffffff, pcs.data(), 4096, cut, trusted));
  return pcs;
}

TEST_P(PlacesTest, LayoutsThatShareAPlaceAreAllKnown) {
  void (*const splits[])() = {outer<1024>, outer<2048>, outer<3072>};
  std::set<uint32_t> stacks;
  std::set<uint64_t> keys;
  uint32_t known = 0;
  for (volatile int round = 0; round < 40; round = round + 1)
    for (auto* split : splits) {
      split();
      stacks.insert(seen.stack);
      keys.insert(seen.key);
      if (round >= 20 && seen.known) known++;
    }
  EXPECT_EQ(1u, keys.size()) << "or this test does not show what it is to show";
  EXPECT_EQ(3u, stacks.size());
  EXPECT_EQ(60u, known);
}

__attribute__((noinline)) void deeper(int depth) {
  if (depth) deeper(depth - 1);
  else look();
  asm volatile("");
}

// One call, so that it is one stack: `before` each look that is made, `after` it.
template <class Before, class After>
void look_often(int rounds, void (*call)(), Before before, After after) {
  for (volatile int round = 0; round < rounds; round = round + 1) {
    before(round);
    call();
    after(round);
  }
}

TEST_P(PlacesTest, TheQuickWayIsForSteadyPlacesThatAreNotChecked) {
  constexpr int kFailure = 10, kChecked = 20, kUnchecked = 40, kEnd = 60;
  const bool quick = GetParam() && __builtin_cpu_supports("aes");
  std::set<uint32_t> stacks;
  look_often(
      kEnd, outer<1024>,
      [](int round) {
        if (round == kFailure) note_failure(*seen.home);
        if (round == kChecked || round == kUnchecked) check_places(round == kChecked);
      },
      [&](int round) {
        stacks.insert(seen.stack);
        if (round == kFailure) {
          EXPECT_FALSE(seen.quick);
        } else if (round == kFailure + 1) {
          EXPECT_EQ(quick, seen.quick) << "a hit takes a failure back";
        } else if (round == kUnchecked - 1) {
          EXPECT_FALSE(seen.quick);
        } else if (round == kFailure - 1 || round == kChecked - 1 || round == kEnd - 1) {
          EXPECT_EQ(quick, seen.quick) << round;
          EXPECT_TRUE(seen.known);
        }
      });
  EXPECT_EQ(1u, stacks.size());
}

// Where each stack is one never seen before, nobody is asked for its fingerprint any more, until a known one comes again.
TEST_P(PlacesTest, WhereOnlyNewStacksComeTheyAreWalkedAtOnce) {
  const bool quick = GetParam() && __builtin_cpu_supports("aes");
  constexpr unsigned kDepth = 12, kPaths = 400;
  std::vector<uint32_t> stacks;
  std::set<uint64_t> keys;
  unsigned at_once = 0, quickly = 0, known = 0;
  for (volatile unsigned round = 0; round < 4 * kPaths; round = round + 1) {   // one call, so that paths that come again are the same stacks
    bool is_new = round < kPaths || round >= 3 * kPaths;
    unsigned path = is_new ? round : round % kPaths;
    two_ways<0>(kDepth, path, look);
    keys.insert(seen.key);
    if (is_new) {
      stacks.push_back(seen.stack);
      at_once += find_place(*seen.home, seen.key)->unsteady == kStrange;
      continue;
    }
    EXPECT_EQ(stacks[path], seen.stack) << round;
    quickly += seen.quick;
    known += round >= 2 * kPaths && seen.known;
  }
  ASSERT_EQ(1u, keys.size());
  EXPECT_EQ(2 * kPaths, std::set<uint32_t>(stacks.begin(), stacks.end()).size());
  EXPECT_GT(at_once, 2 * (kPaths - 2 * kManyFirsts));
  // The table of known stacks is a cache: some are forgotten.
  EXPECT_GT(known, kPaths * 3 / 4);
  if (quick) {
    EXPECT_GT(quickly, 2 * kPaths * 3 / 4);
  } else {
    EXPECT_EQ(0u, quickly);
  }
}

// Where layouts change all the time, places are left alone, and a thread that is mostly there does not ask them first; elsewhere it does again.
TEST_P(PlacesTest, WhoIsMostlyWhereLayoutsChangeIsOffTheQuickWay) {
  void (*const splits[])() = {outer<512>,  outer<768>,  outer<1024>, outer<1280>, outer<1536>, outer<1792>, outer<2048>,
                              outer<2304>, outer<2560>, outer<2816>, outer<3072>, outer<3328>, outer<3584>};
  constexpr unsigned kSplits = std::size(splits), kRounds = 4000, kSteady = 500;
  const base::ThreadState& t = base::thread_state;
  ASSERT_FALSE(is_off_quick_way(t));
  std::map<void (*)(), std::set<uint32_t>> stacks;
  unsigned alone = 0, off = 0, off_at_the_end = 0;
  for (volatile unsigned round = 0; round < kRounds + kSteady; round = round + 1) {
    bool steady = round >= kRounds;
    void (*split)() = splits[steady ? 0 : round * 7 % kSplits];
    if (steady) last_call();
    else split();
    if (!steady) stacks[split].insert(seen.stack);
    alone += is_left_alone(seen.key);
    (steady ? off_at_the_end : off) += is_off_quick_way(t);
  }
  EXPECT_EQ(kSplits, stacks.size());
  for (auto& [split, ids] : stacks) EXPECT_EQ(1u, ids.size());
  EXPECT_GT(alone, kRounds * 3 / 4);
  EXPECT_GT(off, kRounds * 3 / 4);
  EXPECT_LE(off_at_the_end, kMostLeaning);
  EXPECT_FALSE(is_off_quick_way(t));
}

// Off the quick way for as long as it lives.
class OffQuickWay {
 public:
  OffQuickWay() : span_(std::exchange(base::thread_state.quick_span, 0)) {}
  ~OffQuickWay() { base::thread_state.quick_span = span_; }
  OffQuickWay(const OffQuickWay&) = delete;
  OffQuickWay& operator=(const OffQuickWay&) = delete;

 private:
  address span_;
};

TEST_P(PlacesTest, OffTheQuickWayAHitTakesBackLess) {
  Place p{};
  p.meta = kSlow;
  p.unsteady = 5;
  note_hit(p);
  EXPECT_EQ(3, p.unsteady);
  OffQuickWay off;
  note_hit(p);
  EXPECT_EQ(2, p.unsteady);
}

// How many of eight failures at one place were looked into: each finds the layout that is known.
__attribute__((noinline)) int looked_into() {
  Caller c = HERE;
  Sight sight;
  uint32_t stack = walk_to_stack(c, sight);
  note_stack(c, begin_lookup(c).key, stack, true, sight);
  Lookup k = begin_lookup(c);   // the table of places may have been widened
  Place* p = find_place(*k.home, k.key);
  if (!p) return -1;
  p->same = 0;
  for (int i = 0; i < 8; i++) note_stack(c, k.key, stack, false, sight);
  return p->same;
}
TEST_P(PlacesTest, OffTheQuickWayFewerFailuresAreLookedInto) {
  EXPECT_EQ(4, looked_into());
  OffQuickWay off;
  EXPECT_EQ(2, looked_into());
}

// How many of 128 look-ups at a place that is left alone ask it: it is steady, so each that does is a hit.
__attribute__((noinline)) int asked_though_left_alone() {
  Caller c = HERE;
  for (int i = 0; i < 8; i++) find_stack(begin_lookup(c));
  Lookup k = begin_lookup(c);   // the table of places may have been widened
  Place* p = find_place(*k.home, k.key);
  if (!p) return -1;
  base::ThreadState& t = base::thread_state;
  t.victim = 0;
  int asked = 0;
  for (int i = 0; i < 128; i++) {
    p->unsteady = kMostUnsteady;
    settle_way(*p);
    leave_alone(k.key);
    t.leaning = 0;
    find_left_alone(k);
    asked += p->unsteady != kMostUnsteady;
  }
  p->unsteady = 0;
  settle_way(*p);
  ask_again(k.key);
  return asked;
}
TEST_P(PlacesTest, OffTheQuickWayWhatIsLeftAloneIsAskedMoreSeldom) {
  EXPECT_EQ(4, asked_though_left_alone());
  OffQuickWay off;
  EXPECT_EQ(2, asked_though_left_alone());
}

TEST_P(PlacesTest, TheQuickWayIsForNearSlotsOnly) {
  look_often(10, [] { deeper(60); }, [](int) {}, [](int) { EXPECT_FALSE(seen.quick); });
  EXPECT_TRUE(seen.known);
}

class QuickPlacesTest : public PlacesTest {};
INSTANTIATE_TEST_SUITE_P(Ways, QuickPlacesTest, testing::Values(true), way_name);
TEST_P(QuickPlacesTest, AWayThatIsWronglySlowIsPutRight) {
  constexpr int kWrong = 10;
  if (!__builtin_cpu_supports("aes")) GTEST_SKIP() << "this processor has no AES";
  std::set<uint32_t> stacks;
  look_often(
      2 * kWrong, outer<1024>,
      [](int round) {
        if (round == kWrong) seen.home->meta ^= kSlow | kWay;   // as two threads may leave it that note a hit and a failure at once
      },
      [&](int round) {
        stacks.insert(seen.stack);
        if (round >= kWrong - 1) {
          EXPECT_EQ(round != kWrong, seen.quick) << round;
        }
      });
  EXPECT_EQ(1u, stacks.size());
}

TEST_P(PlacesTest, AModuleThatGoesTakesAllWithIt) {
  uint32_t stack = 0;
  for (volatile int round = 0; round < 30; round = round + 1) {
    if (round == 10) empty_caches();
    outer<1024>();
    if (!round) stack = seen.stack;
    EXPECT_EQ(stack, seen.stack);
    if (round == 9 || round == 29) {
      EXPECT_TRUE(seen.known) << round;
    } else if (round == 10) {
      EXPECT_FALSE(seen.known);
    }
  }
}

TEST_P(PlacesTest, DeepStacksAreKnownUpToALimit) {
  constexpr int kLong = 60, kTooLong = 250;   // more slots than a place has; more than there can be
  for (int depth : {1, kLong, kTooLong}) {
    uint32_t stack = 0;
    for (volatile int round = 0; round < 10; round = round + 1) {
      deeper(depth);
      if (round) {
        EXPECT_EQ(stack, seen.stack);
      }
      stack = seen.stack;
    }
    EXPECT_EQ(depth != kTooLong, seen.known) << depth;
    EXPECT_GT(path_of(stack).size(), size_t(depth));
  }
}

// A frame whose size only rbp tells.
__attribute__((noinline)) void sized(size_t bytes, void (*call)()) {
  auto* room = static_cast<volatile char*>(alloca(bytes));
  room[0] = 0;
  call();
  room[bytes - 1] = 0;
}
__attribute__((noinline)) void sized_outer(size_t bytes) {
  auto* room = static_cast<volatile char*>(alloca(4096 - bytes));
  room[0] = 0;
  sized(bytes, last_call);
  room[4096 - bytes - 1] = 0;
}

TEST_P(PlacesTest, FramesOfAnySizeAreFoundByTheirSavedRbp) {
  std::set<uint64_t> keys;
  std::set<std::vector<address>> paths;
  uint32_t known = 0;
  for (volatile int round = 0; round < 40; round = round + 1)
    for (size_t bytes : {512, 1024}) {
      sized_outer(bytes);
      keys.insert(seen.key);
      paths.insert(path_of(seen.stack));
      if (round >= 20 && seen.known) known++;
    }
  EXPECT_EQ(1u, keys.size());
  EXPECT_EQ(1u, paths.size()) << "the same functions, by the same calls";
  EXPECT_EQ(40u, known);
}

TEST_P(PlacesTest, AStackOfUnknownBoundsIsFoundByProof) {
  uint32_t stack = 0;
  for (volatile int round = 0; round < 20; round = round + 1) {
    if (round == 10) base::thread_state.set_stack(0, 0);
    outer<1024>();
    if (!round) stack = seen.stack;
    EXPECT_EQ(stack, seen.stack);
    EXPECT_EQ(round > 0 && round < 10, seen.known) << round;
  }
}

// Calls from where sp is as it was, whatever lies further out.
__attribute__((noinline)) void look_at(address sp) {
  auto* room = static_cast<volatile char*>(alloca(reinterpret_cast<address>(__builtin_frame_address(0)) - sp));
  room[0] = 0;
  last_call();
  room[1] = 0;
}
__attribute__((noinline)) void look_at_after(int depth, address sp) {
  if (depth) look_at_after(depth - 1, sp);
  else look_at(sp);
  asm volatile("");
}

// The path is another stack's then, of the same place perhaps.
TEST_P(PlacesTest, AStackThatIsCutHasNoLayout) {
  address sp = (reinterpret_cast<address>(__builtin_frame_address(0)) - (256 << 10)) & ~address{15};
  std::set<uint64_t> keys;
  for (volatile int round = 0; round < 20; round = round + 1) {
    look_at_after(3, sp);
    keys.insert(seen.key);
    uint32_t whole = seen.stack;
    for (volatile int again = 0; again < 8; again = again + 1) {
      look_at_after(700, sp);
      keys.insert(seen.key);
      EXPECT_NE(whole, seen.stack);
      EXPECT_FALSE(seen.known);
    }
  }
  EXPECT_EQ(1u, keys.size()) << "or this test does not show what it is to show";
}

// Many places: one function is called with its stack pointer further and further in.
class ManyPlacesTest : public PlacesTest {
 protected:
  static constexpr uint32_t kPlaces = 400;
  // No two are equal, and they are no series, which the hash would spread evenly: so some have the same home.
  static address distance(uint64_t place) { return (128 << 10) + place * place * 7 % 8191 * 16; }
  static Place& home_of(uint64_t key) { return places.load()->at(key); }
  static bool is_home(uint64_t key) { return is_of(home_of(key).meta, key); }

  // Always by the same calls: `next` says from which place a thread looks, kPlaces ends it, and `check` sees what was seen.
  static std::thread looking(std::function<uint32_t()> next, std::function<void(uint32_t)> check) {
    return std::thread([next, check] {
      know_own_stack();
      for (uint32_t place; (place = next()) < kPlaces; check(place))
        look_at(reinterpret_cast<address>(__builtin_thread_pointer()) - distance(place));
    });
  }

  void learn() {
    int left = 20 * kPlaces;
    looking([&] { return left-- ? left % kPlaces : kPlaces; },
            [&](uint32_t place) {
              keys_[place] = seen.key;
              stacks_[place] = seen.stack;
            }).join();
    std::set<uint64_t> keys(keys_, keys_ + kPlaces);
    ASSERT_EQ(kPlaces, keys.size()) << "or these tests do not show what they are to show";
  }

  uint64_t keys_[kPlaces];
  uint32_t stacks_[kPlaces];
};
INSTANTIATE_TEST_SUITE_P(Ways, ManyPlacesTest, testing::Bool(), way_name);

TEST_P(ManyPlacesTest, OneThatIsUsedOftenComesHome) {
  learn();
  uint32_t away = 0;
  while (away < kPlaces && (is_home(keys_[away]) || !find_place(home_of(keys_[away]), keys_[away]))) away++;
  ASSERT_LT(away, kPlaces) << "all are at home, by chance";
  int left = 300 + kPlaces;
  looking([&] { return left-- ? left >= int(kPlaces) ? away : uint32_t(left) : kPlaces; },
          [&](uint32_t place) {
            EXPECT_EQ(keys_[place], seen.key);
            EXPECT_EQ(stacks_[place], seen.stack) << "also where one had to give way";
            if (left == kPlaces) {
              EXPECT_TRUE(seen.known);
              EXPECT_TRUE(is_home(seen.key));
            }
          }).join();
}

TEST_P(ManyPlacesTest, TwoThatHaveOneHomeTakeTurns) {
  learn();
  uint32_t a = 0, b = 0;
  for (uint32_t i = 0; i < kPlaces && !b; i++)
    for (uint32_t k = i + 1; k < kPlaces && !b; k++)
      if (&home_of(keys_[i]) == &home_of(keys_[k])) a = i, b = k;
  ASSERT_NE(0u, b) << "no two have, by chance";
  constexpr int kThreads = 4, kRounds = 20000;
  std::atomic<uint32_t> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; t++)
    threads.push_back(looking([=, round = t]() mutable { return ++round == t + kRounds ? kPlaces : round / 50 % 2 ? a : b; },
                              [&](uint32_t place) { wrong += seen.stack != stacks_[place] || seen.key != keys_[place]; }));
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(0u, wrong.load());
}

// All of them at the same places, which one of them empties again and again.
TEST_P(PlacesTest, ThreadsThatShareLinesFindTheirOwnStacks) {
  constexpr int kThreads = 4, kRounds = 4000;
  void (*const splits[])() = {outer<1024>, outer<1536>, outer<2048>, outer<2560>, outer<3072>};
  std::set<uint32_t> stacks[kThreads][std::size(splits)];
  std::set<uint64_t> keys[kThreads];
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; t++)
    threads.emplace_back([&, t] {
      know_own_stack();
      for (volatile int round = 0; round < kRounds; round = round + 1) {
        if (!t && round % 64 == 0) empty_caches();
        for (size_t i = 0; i < std::size(splits); i++) {
          splits[i]();
          stacks[t][i].insert(seen.stack);
          keys[t].insert(seen.key);
        }
      }
    });
  for (auto& thread : threads) thread.join();
  for (int t = 0; t < kThreads; t++) {
    EXPECT_EQ(keys[0], keys[t]);
    for (size_t i = 0; i < std::size(splits); i++) {
      EXPECT_EQ(1u, stacks[t][i].size());
      EXPECT_EQ(stacks[0][i], stacks[t][i]);
      if (i) {
        EXPECT_NE(stacks[t][0], stacks[t][i]);
      }
    }
  }
}

}  // namespace
}  // namespace tidemark
