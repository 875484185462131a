// The process over time: what the keeper wrote is what the reports tell, also where it was caught in the middle of writing.
#include <gtest/gtest.h>

#include "analyzer/model/timeline.h"
#include "tests/unit/support/region_builder.h"

namespace tidemark::test {
namespace {

using namespace format;
using model::Timeline;

Timeline timeline_of(const RegionBuilder& builder) { return model::read_timeline(region::Region::parse(builder.used())); }

template <typename T>
T& record(RegionBuilder& builder, PageKind kind, uint32_t slot) {
  static uint64_t page;   // of the latest call with slot 0
  if (slot == 0) page = builder.page(kind);
  return *(&builder.at<T>(uint32_t(builder.header().first_line + page * kLinesPerPage)) + slot);
}

void put_point(RegionBuilder& builder, uint32_t slot, uint32_t from, uint32_t until, uint64_t rss) {
  auto& point = record<ProcessPoint>(builder, PageKind::kPoints, slot);
  point.samples = 1;
  point.first_tick = from * kTicksPerSecond;
  point.last_tick = until * kTicksPerSecond;
  for (GaugeRange& gauge : point.gauges) gauge = {kUnknown, kUnknown, kUnknown};
  point.gauges[kRss] = {rss - 1, rss + 1, rss};
}

TEST(AnalyzerTimeline, PointsInOrder) {
  RegionBuilder builder;
  put_point(builder, 0, 0, 1, 100);
  put_point(builder, 1, 2, 3, 300);
  put_point(builder, 3, 4, 5, 200);   // slot 2 has no sample
  Timeline timeline = timeline_of(builder);
  ASSERT_EQ(3u, timeline.points.size());
  EXPECT_EQ(200u, timeline.last(kRss));
  EXPECT_EQ(301u, timeline.highest(kRss));
  EXPECT_FALSE(timeline.last(kPss));
  EXPECT_EQ(5.0, timeline.points[2].until_s);
}

TEST(AnalyzerTimeline, OfAForkChildSinceItsOwnStart) {
  RegionBuilder builder;
  Header& header = builder.header();
  header.first_tick = 10 * kTicksPerSecond;
  header.baseline_tick = 11 * kTicksPerSecond;
  header.rss_ledger.sequence = 2;
  header.rss_ledger.tick = 12 * kTicksPerSecond;
  put_point(builder, 0, 10, 14, 100);
  Timeline timeline = timeline_of(builder);
  EXPECT_EQ(0.0, timeline.points[0].from_s);
  EXPECT_EQ(4.0, timeline.points[0].until_s);
  EXPECT_EQ(1.0, timeline.baseline_s);
  EXPECT_EQ(2.0, timeline.ledger->at_s);
}

TEST(AnalyzerTimeline, PointsThatWereBeingJoinedCountOnce) {
  RegionBuilder builder;
  put_point(builder, 0, 0, 3, 100);   // already joined with the next one, which is still there
  put_point(builder, 1, 2, 3, 100);
  put_point(builder, 2, 4, 5, 100);
  EXPECT_EQ(2u, timeline_of(builder).points.size());
}

TEST(AnalyzerTimeline, PurgesInTheOrderOfTheirNumbers) {
  RegionBuilder builder;
  for (uint32_t slot = 0; slot < 3; slot++) {
    auto& purge = record<Purge>(builder, PageKind::kPurges, slot);
    purge.number = slot == 0 ? 513 : slot + 1;   // the ring has gone round
    purge.tick = purge.number * kTicksPerSecond;
    purge.ns = 2'500'000;
    purge.bytes_returned = purge.number;
  }
  builder.header().purges = 513;
  Timeline timeline = timeline_of(builder);
  ASSERT_EQ(3u, timeline.purges.size());
  EXPECT_EQ(2u, timeline.purges[0].bytes_returned);
  EXPECT_EQ(513.0, timeline.purges[2].at_s);
  EXPECT_EQ(2.5, timeline.purges[2].ms);
  EXPECT_EQ(513u, timeline.purges_made);
}

TEST(AnalyzerTimeline, WarningsInWords) {
  RegionBuilder builder;
  record<Event>(builder, PageKind::kEvents, 0) = {uint32_t(EventKind::kRssIncrease), 32, 30 << 20, 10 << 20, {}};
  record<Event>(builder, PageKind::kEvents, 1) = {77, 48, 0, 0, {}};   // of a later version
  Timeline timeline = timeline_of(builder);
  ASSERT_EQ(2u, timeline.warnings.size());
  EXPECT_EQ("rss_increase", timeline.warnings[0].kind);
  EXPECT_EQ("RSS has grown by 20.0 MiB since the baseline: 30.0 MiB, was 10.0 MiB", timeline.warnings[0].text);
  EXPECT_EQ("unknown", timeline.warnings[1].kind);
}

TEST(AnalyzerTimeline, NothingNotedIsNothing) {
  Timeline timeline = timeline_of(RegionBuilder());
  EXPECT_TRUE(timeline.points.empty());
  EXPECT_FALSE(timeline.baseline_rss);
  EXPECT_FALSE(timeline.last(kRss));
  EXPECT_EQ(0u, timeline.purges_made);
}

}  // namespace
}  // namespace tidemark::test
