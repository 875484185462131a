// When a report says that the OOM killer did it.
#include <gtest/gtest.h>

#include <algorithm>

#include "analyzer/model/out_of_memory.h"
#include "tests/unit/support/region_builder.h"

namespace tidemark::test {
namespace {

using namespace format;
using model::OutOfMemory;
using Certainty = OutOfMemory::Certainty;

class AnalyzerOutOfMemory : public testing::Test {
 protected:
  AnalyzerOutOfMemory() {
    process_.ending = model::Ending::kKilled;
    std::copy_n(RegionBuilder().header().boot_id, surroundings_.boot_id.size(), surroundings_.boot_id.begin());
    surroundings_.oom_kills = [this](const std::string&, uint64_t) { return kills_now_; };
    timeline_.cgroup = "/sys/fs/cgroup/service";
  }

  // A second of samples that ends with these figures.
  void sample(uint64_t current, uint64_t limit, uint64_t kills) {
    model::Point point{double(timeline_.points.size()), double(timeline_.points.size()) + 1, 1, {}, {}};
    point.gauges[kCgroupCurrent].last = current;
    if (limit != 0) point.gauges[kCgroupLimit].last = limit;
    point.gauges[kRss].last = current / 2;
    point.gauges[kLive].last = live_ = current / 3;
    point.counters[kCgroupOomKills] = kills;
    timeline_.points.push_back(point);
  }

  std::optional<OutOfMemory> judge() {
    return model::judge_out_of_memory(region::Region::parse(builder_.used()), process_, timeline_, surroundings_, live_);
  }

  RegionBuilder builder_;
  uint64_t live_ = 0;   // at the end
  model::Process process_;
  model::Timeline timeline_;
  model::Surroundings surroundings_;
  std::optional<uint64_t> kills_now_;
};

TEST_F(AnalyzerOutOfMemory, SeenWhenTheCgroupCountedOneMore) {
  sample(950, 1000, 3);
  kills_now_ = 4;
  auto oom = judge();
  ASSERT_TRUE(oom);
  EXPECT_EQ(Certainty::kSeen, oom->certainty);
  EXPECT_EQ(1000u, oom->limit_bytes);
  EXPECT_EQ(475u, oom->rss_bytes);
  process_.ending = model::Ending::kSignaled;
  process_.signal = 9;
  EXPECT_TRUE(judge());
}

TEST_F(AnalyzerOutOfMemory, PossibleWhenTheLimitWasNotNear) {
  sample(500, 1000, 3);
  kills_now_ = 4;
  ASSERT_TRUE(judge());
  EXPECT_EQ(Certainty::kPossible, judge()->certainty) << "the kill that was counted may be another process's";
  sample(700, 1000, 3);
  EXPECT_EQ(Certainty::kSeen, judge()->certainty) << "would have been there in a second and a half";
}

// A worker that its supervisor ended because another one was killed.
TEST_F(AnalyzerOutOfMemory, PossibleWhereTheProcessWasSmall) {
  sample(990, 1000, 3);
  timeline_.points.back().gauges[kRss].last = 50;
  timeline_.points.back().gauges[kLive].last = live_ = 40;
  kills_now_ = 4;
  ASSERT_TRUE(judge());
  EXPECT_EQ(Certainty::kPossible, judge()->certainty);
  EXPECT_TRUE(judge()->limit_near);
  EXPECT_EQ(50u, judge()->own_bytes);
  kills_now_.reset();
  EXPECT_FALSE(judge()) << "all that is known is that a limit was near";
}

TEST_F(AnalyzerOutOfMemory, WhatWasTakenAfterTheLastSampleIsTold) {
  sample(100, 1000, 3);
  timeline_.points.back().gauges[kRss].last = 60;
  timeline_.points.back().gauges[kLive].last = 40;
  live_ = 900;
  kills_now_ = 4;
  ASSERT_TRUE(judge());
  EXPECT_EQ(Certainty::kSeen, judge()->certainty);
  EXPECT_EQ(920u, judge()->own_bytes);
}

TEST_F(AnalyzerOutOfMemory, KilledBeforeTheFirstSample) {
  builder_.header().cgroup_limit = 1000;
  builder_.header().cgroup_oom_kills = 3;
  live_ = 950;
  kills_now_ = 4;
  ASSERT_TRUE(judge());
  EXPECT_EQ(Certainty::kSeen, judge()->certainty);
  EXPECT_EQ(1000u, judge()->limit_bytes);
  kills_now_ = 3;
  EXPECT_FALSE(judge());
  kills_now_ = 4;
  builder_.header().cgroup_oom_kills = UINT64_MAX;
  EXPECT_FALSE(judge()) << "when it was counted is not known";
}

TEST_F(AnalyzerOutOfMemory, NotWhenItCountedNone) {
  sample(999, 1000, 3);
  kills_now_ = 3;
  EXPECT_FALSE(judge()) << "the limit was near, but somebody else sent the signal";
}

TEST_F(AnalyzerOutOfMemory, SeenWithoutALimit) {
  sample(500, 0, 0);
  kills_now_ = 1;
  ASSERT_TRUE(judge());
  EXPECT_FALSE(judge()->limit_bytes);
  EXPECT_EQ(Certainty::kSeen, judge()->certainty);
}

TEST_F(AnalyzerOutOfMemory, InferredWhenTheCgroupIsGone) {
  sample(400, 1000, 0);
  sample(500, 1000, 0);
  EXPECT_FALSE(judge()) << "five seconds away at this pace";
  sample(700, 1000, 0);
  ASSERT_TRUE(judge()) << "would have been there in a second and a half";
  EXPECT_EQ(Certainty::kInferred, judge()->certainty);
}

TEST_F(AnalyzerOutOfMemory, NeverForOtherEndings) {
  sample(999, 1000, 0);
  kills_now_ = 1;
  for (auto ending : {model::Ending::kRunning, model::Ending::kExited, model::Ending::kReplaced}) {
    process_.ending = ending;
    EXPECT_FALSE(judge());
  }
  process_.ending = model::Ending::kSignaled;
  process_.signal = 11;
  EXPECT_FALSE(judge());
}

TEST_F(AnalyzerOutOfMemory, AnotherMachinesCgroupTellsNothing) {
  sample(100, 1000, 0);
  kills_now_ = 1;
  surroundings_.boot_id[0] ^= 1;
  EXPECT_FALSE(judge());
}

}  // namespace
}  // namespace tidemark::test
