#include <gtest/gtest.h>

#include "preload/keeper/rss_ledger.h"
#include "preload/platform/kept_file.h"
#include "preload/platform/usage.h"
#include "tests/unit/preload_fixture.h"

namespace tidemark {
namespace {

class LedgerTest : public CoreTest {
 protected:
  static constexpr int64_t kSecond = 1'000'000'000;

  void SetUp() override {
    CoreTest::SetUp();
    platform::begin_kept_files(true);
    keeper::forget_ledger();
  }
  static bool measure(int64_t now, uint64_t rss) { return keeper::measure_ledger_now_and_then(now, rss); }
  static const format::RssLedger& ledger() { return base::header().rss_ledger; }
};

TEST_F(LedgerTest, EveryTenSecondsOrWhereRssIsFarOff) {
  int64_t now = 1000 * kSecond;
  ASSERT_TRUE(measure(now, 0));
  uint64_t rss = ledger().rss;
  ASSERT_GT(rss, 0u);
  EXPECT_FALSE(measure(now + 9 * kSecond, rss));
  EXPECT_FALSE(measure(now + 9 * kSecond, platform::kNotKnown));
  EXPECT_TRUE(measure(now + 11 * kSecond, rss));
  now += 11 * kSecond;
  EXPECT_FALSE(measure(now + 1, rss * 2));   // too soon for what it costs
  EXPECT_TRUE(measure(now + 9 * kSecond, rss * 2));
  now += 9 * kSecond;
  EXPECT_TRUE(measure(now + 9 * kSecond, rss / 2));
}

TEST_F(LedgerTest, ItsPartsAreRss) {
  ASSERT_TRUE(keeper::measure_ledger());
  const format::RssLedger& l = ledger();
  EXPECT_EQ(int64_t(l.rss), int64_t(l.live + l.rounding + l.allocator + l.mappings + l.thread_stacks + l.tidemark) + l.residual);
  EXPECT_LE(l.allocator_free + l.allocator_fragmentation, l.allocator);
  EXPECT_GT(l.tidemark, 0u);
  EXPECT_EQ(0u, l.sequence % 2);
}

}  // namespace
}  // namespace tidemark
