#include "preload/stacks/parts.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include "preload/stacks/rules.h"
#include "tests/unit/preload_fixture.h"

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

// Generated code whose last instruction is a call: its return address is the next part's.
TEST_F(CoreTest, ARuleBehindTheLastByteIsThere) {
  void* memory = mmap(nullptr, 2 * kPart, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(MAP_FAILED, memory);
  const address end = (reinterpret_cast<address>(memory) + kPart) & ~(kPart - 1), start = end - format::kPageBytes;
  *reinterpret_cast<uint8_t*>(end - 5) = 0xe8;
  EXPECT_FALSE(may_have_guess_rules(start, end));
  EXPECT_EQ(format::kRuleGuess, kind_of(add_rule(end, true)));
  EXPECT_TRUE(has_rules(start, end));
  EXPECT_TRUE(may_have_guess_rules(start, end));
  EXPECT_TRUE(may_have_had_generated_code(start, end));
  drop_rules(start, end);
  EXPECT_FALSE(may_have_guess_rules(start, end));
  munmap(memory, 2 * kPart);
}

}  // namespace
}  // namespace tidemark::stacks
