#include <vector>

#include "preload/keeper/process_series.h"
#include "tests/unit/preload_fixture.h"

namespace tidemark {
namespace {
using namespace format;

class SeriesTest : public CoreTest {
 protected:
  void SetUp() override {
    CoreTest::SetUp();
    keeper::forget_series();
  }

  // A sample at this second: RSS as given, PSS unknown but every tenth time, as many faults as seconds.
  void sample(uint32_t second, uint64_t rss) {
    base::header().tick = second * kTicksPerSecond;
    uint64_t gauges[kGauges] = {}, counters[kCounters] = {};
    gauges[kRss] = rss;
    gauges[kPss] = second % 10 == 0 ? rss / 2 : kUnknown;
    counters[kMinorFaults] = second;
    keeper::add_sample(gauges, counters);
  }

  std::vector<ProcessPoint> points() const {
    std::vector<ProcessPoint> result;
    const Header& h = base::header();
    for (uint64_t p = 0; p < h.used_pages; p++) {
      if (base::store.start[h.directory_offset + p] != char(PageKind::kPoints)) continue;
      auto* page = reinterpret_cast<const ProcessPoint*>(base::store.start + p * kPageBytes);
      for (uint32_t i = 0; i < kPageBytes / sizeof(ProcessPoint); i++)
        if (page[i].samples) result.push_back(page[i]);
    }
    return result;
  }
};

TEST_F(SeriesTest, APointForEachSecondAtFirst) {
  for (uint32_t second = 0; second < 100; second++) sample(second, 1000 + second);
  std::vector<ProcessPoint> all = points();
  ASSERT_EQ(100u, all.size());
  EXPECT_EQ(kTicksPerSecond, base::header().series_ticks);
  for (uint32_t i = 0; i < 100; i++) {
    EXPECT_EQ(1000 + i, all[i].gauges[kRss].last);
    EXPECT_EQ(i, all[i].counters[kMinorFaults]);
  }
  EXPECT_EQ(kUnknown, all[1].gauges[kPss].last);
  EXPECT_EQ(505u, all[10].gauges[kPss].last);
}

TEST_F(SeriesTest, AMonthFitsAndKeepsItsExtremes) {
  constexpr uint32_t kMonth = 30 * 86400, kStep = 60;
  for (uint32_t second = 0; second < kMonth; second += kStep) sample(second, second == kMonth / 2 ? 5000 : second == kMonth / 3 ? 10 : 100);
  std::vector<ProcessPoint> all = points();
  ASSERT_LE(all.size(), kProcessPoints);
  ASSERT_GT(all.size(), kProcessPoints / 2 - 1);
  uint64_t samples = 0, highest = 0, lowest = UINT64_MAX;
  for (size_t i = 0; i < all.size(); i++) {
    const ProcessPoint& p = all[i];
    samples += p.samples;
    highest = std::max(highest, p.gauges[kRss].max);
    lowest = std::min(lowest, p.gauges[kRss].min);
    EXPECT_LE(p.last_tick - p.first_tick, base::header().series_ticks);
    if (i) {
      EXPECT_GT(p.first_tick, all[i - 1].last_tick);
    }
  }
  EXPECT_EQ(kMonth / kStep, samples);
  EXPECT_EQ(5000u, highest);
  EXPECT_EQ(10u, lowest);
  EXPECT_EQ((kMonth - kStep), all.back().counters[kMinorFaults]);
  EXPECT_EQ(0u, base::header().series_sequence % 2);
}

TEST_F(SeriesTest, AStopLeavesAGap) {
  sample(0, 1);
  sample(1, 2);
  sample(86400, 3);   // the process was stopped for a day
  std::vector<ProcessPoint> all = points();
  ASSERT_EQ(2u, all.size()) << "one before it, one after it, at the resolution that a day needs";
  EXPECT_EQ(2u, all[0].samples);
  EXPECT_EQ(3u, all[1].gauges[kRss].last);
}

TEST_F(SeriesTest, WithoutRoomTheResolutionFallsEarlier) {
  while (base::take_pages(PageKind::kText, 1)) {}
  sample(0, 1);
  EXPECT_EQ(1u, base::header().coverage[kSamplesLost]);
  EXPECT_TRUE(points().empty());
}

TEST_F(SeriesTest, OneFreePageHoldsTheWholeTime) {
  sample(0, 1);
  while (base::take_pages(PageKind::kText, 1)) {}
  for (uint32_t second = 1; second < 1000; second++) sample(second, second);
  std::vector<ProcessPoint> all = points();
  EXPECT_LE(all.size(), kPageBytes / sizeof(ProcessPoint));
  EXPECT_EQ(0u, base::header().coverage[kSamplesLost]);
  EXPECT_EQ(999u, all.back().gauges[kRss].last);
}

}  // namespace
}  // namespace tidemark
