// Which places are asked the quick way, and what a thread spends on those that are not.
#include <iterator>
#include <map>
#include <set>

#include "tests/unit/preload_places_fixture.h"

namespace tidemark {
namespace {

class QuickWayTest : public PlacesTest {};
INSTANTIATE_TEST_SUITE_P(Ways, QuickWayTest, testing::Bool(), way_name);

TEST_P(QuickWayTest, TheQuickWayIsForSteadyPlacesThatAreNotChecked) {
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

// Where layouts change all the time, places are left alone, and a thread that is mostly there does not ask them first; elsewhere it does again.
TEST_P(QuickWayTest, WhoIsMostlyWhereLayoutsChangeIsOffTheQuickWay) {
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
  OffQuickWay() : span_(std::exchange(base::thread_state.quick_span, 0)) { base::thread_state.leaning = kLeaning; }
  ~OffQuickWay() { base::thread_state.quick_span = span_; }
  OffQuickWay(const OffQuickWay&) = delete;
  OffQuickWay& operator=(const OffQuickWay&) = delete;

 private:
  address span_;
};

TEST_P(QuickWayTest, OffTheQuickWayAHitTakesBackLess) {
  Place p{};
  p.meta = kSlow;
  p.unsteady = 5;
  note_hit(p);
  EXPECT_EQ(3, p.unsteady);
  OffQuickWay off;
  note_hit(p);
  EXPECT_EQ(2, p.unsteady);
}

// Off by a guard in its stack, not by what it asked for.
TEST(LeftAloneTest, WhoseStackIsCutShorterIsOnTheQuickWayAtTheNextCall) {
  base::ThreadState t{};
  t.set_stack(0x10000, 0x20000);
  t.lower_stack_to(0x14000);
  ASSERT_TRUE(is_off_quick_way(t));
  lean_back(t);
  EXPECT_FALSE(is_off_quick_way(t));
  EXPECT_EQ(0x20000u - sizeof(address) - 0x14000u, t.quick_span);
  EXPECT_EQ(0, t.leaning);
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
TEST_P(QuickWayTest, OffTheQuickWayFewerFailuresAreLookedInto) {
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
TEST_P(QuickWayTest, OffTheQuickWayWhatIsLeftAloneIsAskedMoreSeldom) {
  EXPECT_EQ(4, asked_though_left_alone());
  OffQuickWay off;
  EXPECT_EQ(2, asked_though_left_alone());
}

TEST_P(QuickWayTest, TheQuickWayIsForNearSlotsOnly) {
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

}  // namespace
}  // namespace tidemark
