// Percentiles of the ages at which blocks were freed.
#include <gtest/gtest.h>

#include <sstream>

#include "analyzer/output/text.h"
#include "tests/unit/support/parsed.h"

namespace tidemark::test {
namespace {

using namespace format;
using model::Lifetimes;
using model::quantiles;

TEST(AnalyzerLifetimes, NothingFreedHasNone) { EXPECT_FALSE(quantiles(Lifetimes{}, 0)); }

TEST(AnalyzerLifetimes, TheFirstBucketIsTheRest) {
  Lifetimes lifetimes;
  lifetimes.frees[5] = 10;
  lifetimes.young_frees = 20;
  EXPECT_EQ(lifetimes.buckets(100)[0], 70u);
  EXPECT_EQ(lifetimes.buckets(5)[0], 0u);  // torn
}

TEST(AnalyzerLifetimes, Interpolates) {
  Lifetimes lifetimes;
  lifetimes.frees[9] = 100;  // 2 s to 2.5 s
  lifetimes.max_age_ticks = 40;
  auto q = quantiles(lifetimes, 100);
  EXPECT_DOUBLE_EQ(q->p50, 2.25);
  EXPECT_DOUBLE_EQ(q->p90, 2.45);
  EXPECT_DOUBLE_EQ(q->max, 2.5);
}

TEST(AnalyzerLifetimes, NeverAboveTheLargestAge) {
  Lifetimes lifetimes;
  lifetimes.frees[9] = 1;
  lifetimes.max_age_ticks = 33;
  EXPECT_DOUBLE_EQ(quantiles(lifetimes, 1)->p90, 33 / 16.0);
}

TEST(AnalyzerLifetimes, YoungFreesOfUnknownAgeCountAsOldAsTheyMayHaveBeen) {
  Lifetimes lifetimes;
  lifetimes.young_frees = 90;
  lifetimes.frees[lifetime_bucket(1600)] = 10;
  lifetimes.max_age_ticks = 1600;
  auto q = quantiles(lifetimes, 100);
  EXPECT_DOUBLE_EQ(q->p50, 1);
  EXPECT_DOUBLE_EQ(q->p90, 1);
  EXPECT_DOUBLE_EQ(q->max, 100);
}

TEST(AnalyzerLifetimes, TheFreeThatEarnedTheRecordCountsOnce) {
  Lifetimes lifetimes;
  lifetimes.young_frees = 1;  // the same
  lifetimes.frees[lifetime_bucket(48)] = 1;
  lifetimes.max_age_ticks = 48;
  auto q = quantiles(lifetimes, 1);
  EXPECT_DOUBLE_EQ(q->p50, 3);
  EXPECT_DOUBLE_EQ(q->p90, 3);
}

TEST(AnalyzerLifetimes, TheLastBucketEndsAtTheLargestAge) {
  Lifetimes lifetimes;
  lifetimes.frees[kLifetimeBuckets - 1] = 2;
  lifetimes.max_age_ticks = 1u << 23;
  EXPECT_DOUBLE_EQ(quantiles(lifetimes, 2)->max, (1u << 23) / 16.0);
  EXPECT_GT(quantiles(lifetimes, 2)->p50, (1u << 22) / 16.0);
}

TEST(AnalyzerLifetimes, SitesTakeTheDetailOfTheirRecord) {
  RegionBuilder builder;
  StackRow row{.allocated_count = 9, .allocated_bytes = 90, .freed_count = 8, .freed_bytes = 80};
  uint32_t with = builder.stack(builder.path({0x1000}), row);
  builder.stack(builder.path({0x1000}), row);  // same site, no detail: its frees were young
  uint32_t detail = builder.detail(with);
  builder.at<Detail>(detail).lifetime[9] = 8;
  builder.at<Detail>(detail).max_age_ticks = 35;
  builder.stack(builder.path({0x2000}), row);
  auto report = report_of(builder);
  auto& sites = report.profile->sites;
  ASSERT_EQ(sites.size(), 2u);
  ASSERT_TRUE(sites[0].details);
  EXPECT_EQ(sites[0].details->lifetimes.young_frees, 8u);
  EXPECT_EQ(sites[0].details->ids, std::vector<uint32_t>{detail});
  EXPECT_FALSE(sites[1].details);
}

TEST(AnalyzerLifetimes, WhatWasLostIsNotTakenForYoung) {
  RegionBuilder builder;
  for (uint64_t i = 0; i < 33; ++i) builder.stack(builder.path({0x5000 + i}), {.allocated_count = 1, .allocated_bytes = 1});
  StackRow row{.allocated_count = 100, .allocated_bytes = 9000, .freed_count = 90, .freed_bytes = 900, .deaths_lost = true};
  Detail& late = builder.at<Detail>(builder.detail(builder.stack(builder.path({0x1000}), row)));
  late.deaths_before = 80;
  late.lifetime[9] = 10;
  late.max_age_ticks = 40;
  row.allocated_bytes = 8000;
  builder.stack(builder.path({0x2000}), row);
  auto report = report_of(builder);
  const auto& with = report.profile->sites[0];
  EXPECT_EQ(80u, with.details->lifetimes.unknown_frees);
  EXPECT_EQ(0u, with.details->lifetimes.young_frees);
  EXPECT_EQ(0u, with.details->lifetimes.buckets(90)[0]);
  EXPECT_DOUBLE_EQ(2.25, quantiles(with.details->lifetimes, 90)->p50);
  const auto& without = report.profile->sites[1];
  EXPECT_EQ(90u, without.details->lifetimes.unknown_frees);
  EXPECT_FALSE(quantiles(without.details->lifetimes, 90));

  std::ostringstream text;
  output::write_text(text, report, {.top = 2});
  EXPECT_NE(std::string::npos, text.str().find("longest 2.5 s (of 80 it is not known)")) << text.str();
  EXPECT_NE(std::string::npos, text.str().find("how long freed ones lived is not known, for there was no room to note it")) << text.str();
}

TEST(AnalyzerLifetimes, ADetailOfAnotherStackIsNotBelieved) {
  RegionBuilder builder;
  uint32_t id = builder.stack(builder.path({0x1000}), {.allocated_count = 1, .allocated_bytes = 8});
  builder.at<Detail>(builder.detail(id)).stack = id + 1;
  EXPECT_FALSE(report_of(builder).profile->sites[0].details);
}

}  // namespace
}  // namespace tidemark::test
