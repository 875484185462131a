#include <gtest/gtest.h>

#include "preload/keeper/budget.h"

namespace tidemark::keeper {
namespace {

TEST(BudgetTest, WorkIsFollowedByAMultipleOfItsCostWithoutIt) {
  Budget budget(200);
  EXPECT_TRUE(budget.allows(1000, 1 << 20));
  budget.note(1000, 1 << 20, 50);
  EXPECT_FALSE(budget.allows(1000 + 50 * 200 - 1, 1 << 20));
  EXPECT_TRUE(budget.allows(1000 + 50 * 200, 1 << 20));
  budget.forget();
  EXPECT_TRUE(budget.allows(1001, 1 << 20));
}

TEST(BudgetTest, WhatHasGrownIsExpectedToCostMore) {
  Budget budget(200, 0);
  budget.note(0, 100, 50);
  EXPECT_FALSE(budget.allows(4 * 50 * 200 - 1, 400));
  EXPECT_TRUE(budget.allows(4 * 50 * 200, 400));
  EXPECT_FALSE(budget.allows(50 * 200 - 1, 10)) << "what has shrunk may still cost as much";
  EXPECT_TRUE(budget.allows(50 * 200, format::kUnknown));
  budget.note(0, format::kUnknown, 50);
  EXPECT_TRUE(budget.allows(50 * 200, 100));
  EXPECT_FALSE(budget.allows(50 * 200 - 1, 100));
}

TEST(BudgetTest, WhatIsThereInAnyProcessDoesNotGrow) {
  Budget budget(200, 300);
  budget.note(0, 100, 50);
  EXPECT_FALSE(budget.allows(2 * 50 * 200 - 1, 500));
  EXPECT_TRUE(budget.allows(2 * 50 * 200, 500));
}

// A process that grows steadily: what the work costs is in proportion to its age.
TEST(BudgetTest, AProcessThatGrowsDoesNotPayMore) {
  Budget budget(200, 0);
  int64_t spent = 0;
  for (int64_t now = 1000; now < 1'000'000'000; now += 1000) {
    if (!budget.allows(now, uint64_t(now))) continue;
    int64_t cost = now / 100;
    budget.note(now, uint64_t(now), cost);
    spent += cost;
    if (now > 1000) {
      EXPECT_LE(spent * 200, now + 1000 * 2);
    }
  }
  EXPECT_GT(spent, 0);
}

TEST(BudgetTest, SpendingTakesThisThreadsTime) {
  Budget budget(1'000'000);
  volatile uint64_t turns = 0;
  EXPECT_EQ(42, budget.spend(1000, 1, [&] {
    for (int i = 0; i < 10000; i++) turns = turns + 1;
    return 42;
  }));
  EXPECT_FALSE(budget.allows(1001, 1));
}

}  // namespace
}  // namespace tidemark::keeper
