// The process over time: what the keeper wrote is what the reports tell, also where it was caught in the middle of writing.
#include <gtest/gtest.h>

#include <array>
#include <sstream>

#include "analyzer/model/timeline.h"
#include "analyzer/output/text_stats.h"
#include "analyzer/output/text_timeline.h"
#include "tests/unit/support/parsed.h"

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

std::string memory_of(const RegionBuilder& builder) {
  std::ostringstream out;
  output::write_memory(out, *report_of(builder).profile);
  return out.str();
}

RssLedger& put_ledger(RegionBuilder& builder, uint64_t rss) {
  put_point(builder, 0, 0, 1, 100 << 20);
  RssLedger& ledger = builder.header().rss_ledger;
  ledger.sequence = 2;
  ledger.rss = rss;
  return ledger;
}

TEST(AnalyzerTimeline, WhatIsNotExplainedHasAShareOnlyWhereItIsAPart) {
  RegionBuilder builder;
  RssLedger& ledger = put_ledger(builder, 100 << 20);
  ledger.residual = 5 << 20;
  EXPECT_NE(memory_of(builder).find("\n       5.0 MiB   5.0 %  not explained\n"), std::string::npos) << memory_of(builder);
  ledger.residual = -(640 << 10);
  EXPECT_NE(memory_of(builder).find("\n    (these are 640.0 KiB more than the whole: memory grew while it was measured)\n"), std::string::npos) << memory_of(builder);
}

TEST(AnalyzerTimeline, APartThatGrewAboveTheWholeHasNoShare) {
  RegionBuilder builder;
  RssLedger& ledger = put_ledger(builder, 10 << 20);
  ledger.live = 11 << 20;
  ledger.tidemark = 1 << 20;
  ledger.residual = -(2 << 20);
  std::string text = memory_of(builder);
  EXPECT_NE(text.find("\n      11.0 MiB          live blocks\n       1.0 MiB  10.0 %  tidemark itself\n    (these are 2.0 MiB more"), std::string::npos) << text;
}

TEST(AnalyzerTimeline, ABaselineThatIsLaterThanAllSamplesIsTheLatest) {
  RegionBuilder builder;
  Header& header = builder.header();
  header.baseline_tick = 2 * kTicksPerSecond;
  header.baseline_rss = 60 << 20;
  header.baseline_vms = 90 << 20;
  put_point(builder, 0, 0, 1, 30 << 20);
  Timeline timeline = timeline_of(builder);
  EXPECT_EQ(30u << 20, timeline.last(kRss));
  EXPECT_EQ(60u << 20, timeline.latest(kRss));
  EXPECT_EQ(90u << 20, timeline.latest(kVms));
  EXPECT_EQ(60u << 20, timeline.highest(kRss));
  EXPECT_FALSE(timeline.latest(kPss));
  EXPECT_NE(memory_of(builder).find("at the last sample (1.0 s after the start)\n"
                                    "  RSS          60.0 MiB at the baseline (2.0 s after the start), highest 60.0 MiB; 30.0 MiB at the last sample\n"),
            std::string::npos) << memory_of(builder);

  put_point(builder, 1, 2, 3, 50 << 20);
  EXPECT_EQ(50u << 20, timeline_of(builder).latest(kRss));
  EXPECT_NE(memory_of(builder).find("  RSS          50.0 MiB, highest 60.0 MiB; -10.0 MiB since 2.0 s after the start (60.0 MiB)\n"), std::string::npos)
      << memory_of(builder);
}

TEST(AnalyzerTimeline, RssThatIsNotKnownIsCalledSo) {
  RegionBuilder builder;
  put_point(builder, 0, 0, 1, 0);
  EXPECT_EQ(memory_of(builder).find("not known"), std::string::npos);
  builder.at<ProcessPoint>(uint32_t(builder.header().first_line + (builder.header().used_pages - 1) * kLinesPerPage)).gauges[kRss] = {kUnknown, kUnknown, kUnknown};
  EXPECT_NE(memory_of(builder).find("\n  RSS          not known: the process could not read /proc\n"), std::string::npos) << memory_of(builder);
}

// What a ledger says of `mib` MiB, in these parts.
void fill_ledger(RssLedger& ledger, uint32_t second, std::array<int64_t, 7> mib) {
  auto bytes = [&](size_t part) { return uint64_t(mib[part]) << 20; };
  ledger.sequence = 2;
  ledger.tick = second * kTicksPerSecond;
  ledger.live = bytes(0), ledger.rounding = bytes(1), ledger.allocator = bytes(2), ledger.mappings = bytes(3), ledger.thread_stacks = bytes(4);
  ledger.tidemark = bytes(5);
  ledger.residual = mib[6] * (1 << 20);
  int64_t sum = 0;
  for (int64_t part : mib) sum += part;
  ledger.rss = uint64_t(sum) << 20;
}

TEST(AnalyzerTimeline, PartsOfGrowthAddUp) {
  RegionBuilder builder;
  Header& header = builder.header();
  put_point(builder, 0, 0, 9, 200 << 20);
  fill_ledger(header.baseline_ledger, 2, {10, 1, 20, 30, 1, 3, -2});
  fill_ledger(header.rss_ledger, 9, {60, 4, 15, 30, 2, 4, -1});
  EXPECT_NE(memory_of(builder).find("  growth       51.0 MiB since the baseline: 50.0 MiB into live blocks: the call stacks below, and\n"
                                    "               6.0 MiB into others\n"
                                    "               less 5.0 MiB by which other parts are smaller now\n"),
            std::string::npos) << memory_of(builder);
  put_point(builder, 1, 10, 12, 200 << 20);
  EXPECT_NE(memory_of(builder).find("  growth       51.0 MiB since the baseline, as of 9.0 s: 50.0 MiB into live"), std::string::npos) << memory_of(builder);
}

std::string stats_of(const Timeline& timeline, const model::Machine& machine = {1 << 30, 1 << 29}) {
  output::State state{timeline, {}, {}};
  state.process.name = "server";
  std::ostringstream out;
  output::write_stats(out, state, 7, machine);
  return out.str();
}

TEST(AnalyzerStats, AllThatIsKnown) {
  RegionBuilder builder;
  put_point(builder, 0, 0, 1, 512 << 20);
  auto& gauges = builder.at<ProcessPoint>(uint32_t(builder.header().first_line + (builder.header().used_pages - 1) * kLinesPerPage)).gauges;
  for (Gauge gauge : {kThreads, kDescriptors}) gauges[gauge] = {3, 3, uint64_t(gauge == kThreads ? 3 : 12)};
  for (Gauge gauge : {kActive, kDirty, kMetadata}) gauges[gauge] = {1024, 1024, 1024};
  Timeline timeline = timeline_of(builder);
  constexpr const char* kRest =
      "  heap        0 bytes live in 0 blocks, at peak 0 bytes\n  allocator   1.0 KiB active, 1.0 KiB free pages, 1.0 KiB metadata\n"
      "  threads     3, descriptors 12\n  purges      0, 0 bytes returned; warnings 0\n";
  EXPECT_EQ(std::string("server (pid 7), running for 0 s\n"
                        "  RSS         512.0 MiB, 50.0 % of the machine's memory (512.0 MiB of it available); no baseline yet\n") + kRest,
            stats_of(timeline));
  timeline.baseline_rss = 511 << 20;
  EXPECT_EQ(std::string("server (pid 7), running for 0 s\n  RSS         512.0 MiB; +1.0 MiB since the baseline\n") + kRest, stats_of(timeline, {}));
}

TEST(AnalyzerStats, RssIsKnownOrSaidNotToBe) {
  output::State state;
  state.timeline.points.emplace_back().gauges[kRss].last = 512 << 20;
  state.rss_is_from_here = true;
  std::ostringstream out;
  output::write_stats(out, state, 7, {});
  EXPECT_NE(out.str().find("  RSS         512.0 MiB; seen from here, for the process cannot read /proc: no baseline\n"), std::string::npos) << out.str();
}

TEST(AnalyzerStats, WhatIsNotKnownIsLeftOut) {
  EXPECT_EQ("server (pid 7), running for 0 s\n  RSS         not known: the process cannot read /proc, nor can this command\n  heap        0 bytes live in 0 blocks, at peak 0 bytes\n"
            "  purges      0, 0 bytes returned; warnings 0\n",
            stats_of(Timeline()));
  Timeline timeline;
  timeline.points.emplace_back().gauges[kThreads].last = 3;
  EXPECT_NE(stats_of(timeline).find("  threads     3\n"), std::string::npos);
  timeline.points.back().gauges[kThreads].last.reset();
  timeline.points.back().gauges[kDescriptors].last = 12;
  timeline.points.back().gauges[kDirty].last = 1024;
  EXPECT_NE(stats_of(timeline).find("  allocator   1.0 KiB free pages\n  descriptors  12\n"), std::string::npos) << stats_of(timeline);
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
