// Places and the layouts of live stacks there, with AES and without.
#include <alloca.h>
#include <signal.h>
#include <ucontext.h>

#include <functional>
#include <iterator>
#include <set>
#include <thread>
#include <vector>

#include "tests/unit/preload_places_fixture.h"
#include "tests/victims/two_ways.h"

namespace tidemark {
namespace {

INSTANTIATE_TEST_SUITE_P(Ways, PlacesTest, testing::Bool(), way_name);

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
  static address distance(uint64_t place) { return (128 << 10) + place * place * 7 % 8191 * 16 + moved_by; }
  static inline address moved_by = 0;
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

// One thread stands still between two instructions, as any may, and another one does something meanwhile. The interruption is a single step's trap.
std::function<bool()> at_step;   // true: no more of them
void call_at_step(int, siginfo_t*, void* context) {
  if (at_step()) static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_EFL] &= ~0x100;
}
__attribute__((noinline)) void step_by_step(const std::function<void()>& call) {
  struct sigaction trap {}, before;
  trap.sa_sigaction = call_at_step;
  trap.sa_flags = SA_SIGINFO;
  sigaction(SIGTRAP, &trap, &before);
  asm volatile("sub $128, %%rsp; pushfq; orq $0x100, (%%rsp); popfq; add $128, %%rsp" ::: "memory", "cc");
  call();
  asm volatile("sub $128, %%rsp; pushfq; andq $~0x100, (%%rsp); popfq; add $128, %%rsp" ::: "memory", "cc");
  sigaction(SIGTRAP, &before, nullptr);
}

class SwappedPlacesTest : public ManyPlacesTest {
 protected:
  void SetUp() override {
    ManyPlacesTest::SetUp();
    learn_anew();
  }
  // Also which place is found behind its home.
  void learn_anew() {
    home_ = away_ = nullptr;
    for (int tries = 0; !home_ && tries < 100; tries++) {   // all may be at home, or before it, by chance
      empty_places();
      learn();
      for (uint64_t key : keys_) {
        Place &home = home_of(key), *p = find_place(home, key);
        if (p > &home) home_ = &home, away_ = p, key_ = key;
      }
      moved_by += 16;
    }
    ASSERT_NE(nullptr, home_);
  }
  void bring_home() {
    base::thread_state.away = 63;   // the next look does it
    find_away(*home_, key_);
  }
  void expect_empty() {
    for (uint32_t i = 0; i < kGroupLines; i++) {
      EXPECT_EQ(0u, line_of(*home_, i).meta.load());
      EXPECT_EQ(0u, line_of(*home_, i).last.load());
    }
  }
  Place *home_, *away_;
  uint64_t key_;
};
INSTANTIATE_TEST_SUITE_P(Ways, SwappedPlacesTest, testing::Bool(), way_name);

// From a line that is not emptied yet to one that is.
TEST_P(SwappedPlacesTest, OneThatComesHomeWhileAllAreEmptiedIsEmptied) {
  bool tried = false;
  at_step = [&] {
    if (home_->meta || !is_of(away_->meta, key_)) return false;
    bring_home();
    return tried = true;
  };
  step_by_step([] { empty_places(); });
  EXPECT_TRUE(tried);
  expect_empty();
}

TEST_P(SwappedPlacesTest, OneThatIsOnItsWayWhileAllAreEmptiedIsEmptied) {
  auto is_held = [](const Place& p) { return p.meta && !(p.meta >> 32 & 1); };   // no place's mark is even
  constexpr int kApart = 5;
  for (int steps_before = 0;; steps_before += kApart) {   // so many after both were held
    int held_for = 0;
    at_step = [&] {
      if (!is_held(*home_) || !is_held(*away_) || held_for++ < steps_before) return false;
      empty_places();
      return true;
    };
    step_by_step([this] { bring_home(); });
    if (held_for <= steps_before) {
      EXPECT_GT(steps_before, 4 * kApart) << "or this test does not show what it is to show";
      break;
    }
    expect_empty();
    ASSERT_NO_FATAL_FAILURE(learn_anew());
  }
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
