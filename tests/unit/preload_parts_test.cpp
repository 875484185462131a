#include "preload/stacks/parts.h"

#include <gtest/gtest.h>

namespace tidemark::stacks {
namespace {
constexpr address kPart = 2 << 20, kAt = address{0x7f12} << 32;

TEST(PartCounts, ThereIsSomethingWhereItWasAddedUntilItIsTakenAway) {
  static PartCounts counts;
  EXPECT_FALSE(counts.any(kAt - kPart, kAt + kPart));
  counts.add(kAt + 100, 1);
  counts.add(kAt + 200, 1);
  EXPECT_TRUE(counts.any(kAt, kAt + 1)) << "of a part all is said at once";
  EXPECT_TRUE(counts.any(kAt - 1, kAt + kPart + 1));
  EXPECT_FALSE(counts.any(kAt - kPart, kAt));
  EXPECT_FALSE(counts.any(kAt + kPart, kAt + 2 * kPart));
  EXPECT_FALSE(counts.any(kAt + 100, kAt + 100)) << "no range";
  counts.add(kAt + 100, -1);
  EXPECT_TRUE(counts.any(kAt, kAt + 1));
  counts.add(kAt + 200, -1);
  EXPECT_FALSE(counts.any(kAt, kAt + 1));
}

TEST(PartCounts, PartsThatAreFarFromEachOtherAreTwo) {
  static PartCounts counts;
  counts.add(kAt, 1);
  for (address away = kPart; away < address{1} << 46; away *= 2) EXPECT_FALSE(counts.any(kAt ^ away, (kAt ^ away) + 1)) << away;
}

TEST(PartCounts, WhereThereAreTooManyPartsAnyMayHaveSomething) {
  static PartCounts counts;
  for (address i = 0; i < 1024; i++) counts.add(kAt + i * kPart, 1);
  EXPECT_FALSE(counts.any(kAt - kPart, kAt));
  for (address i = 0; i < 1024; i++) EXPECT_TRUE(counts.any(kAt + i * kPart, kAt + i * kPart + 1)) << i;
  counts.add(kAt - 2 * kPart, 1);
  EXPECT_TRUE(counts.any(kAt - kPart, kAt));
}

}  // namespace
}  // namespace tidemark::stacks
