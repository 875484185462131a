// From records to sites: which stacks are one, whose the blocks are, and what odd records do.
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "tests/unit/support/parsed.h"

namespace tidemark::test {
namespace {

using namespace format;
using model::Frame;
using model::kNoModule;

std::vector<uint64_t> offsets(const std::vector<Frame>& frames) {
  std::vector<uint64_t> result;
  for (const Frame& frame : frames) result.push_back(frame.offset);
  return result;
}

std::vector<uint64_t> offsets_of_first(const output::Report& report) {
  return offsets(report.profile->frames(report.profile->sites.at(0)));
}

TEST(AnalyzerFrames, GroupsOfAllLengthsFromTheInside) {
  std::vector<uint64_t> pcs;
  for (uint64_t depth = 1; depth <= 20; ++depth) {
    pcs.push_back(depth << 12);
    RegionBuilder builder;
    builder.stack(builder.path(pcs), {.allocated_count = 1, .allocated_bytes = 8});
    EXPECT_EQ(offsets_of_first(report_of(builder)), pcs);
  }
}

TEST(AnalyzerFrames, LoneFramesAndSignals) {
  RegionBuilder builder;
  uint32_t interrupted = builder.path({0x5000, 0x6000});
  uint32_t trampoline = builder.lone(0x4000, kRuleSignal, interrupted);
  uint32_t guessed = builder.lone(0x3000, kRuleGuess, trampoline);
  builder.stack(builder.group({0x1000, 0x2000}, guessed), {.allocated_count = 1, .allocated_bytes = 8});
  auto report = report_of(builder);
  auto frames = report.profile->frames(report.profile->sites.at(0));
  EXPECT_EQ(offsets(frames), (std::vector<uint64_t>{0x1000, 0x2000, 0x3000, 0x4000, 0x5000, 0x6000}));
  EXPECT_TRUE(frames[2].guessed);
  EXPECT_TRUE(frames[3].signal);
  EXPECT_FALSE(frames[3].exact);
  EXPECT_TRUE(frames[4].exact);  // the interrupted instruction
  EXPECT_FALSE(frames[5].exact);
}

TEST(AnalyzerFrames, CutPathsAreMarked) {
  RegionBuilder builder;
  builder.stack(builder.path({0x1000}, kCutNode), {.allocated_count = 1, .allocated_bytes = 8});
  auto report = report_of(builder);
  EXPECT_TRUE(report.profile->sites.at(0).truncated);
  EXPECT_FALSE(report.profile->sites.at(0).damaged);
}

TEST(AnalyzerFrames, CyclesEnd) {
  RegionBuilder builder;
  uint32_t a = builder.group({0x1000}), b = builder.group({0x2000}, a), self = builder.group({0x3000});
  builder.at<Node>(a).caller = b;
  builder.at<Node>(self).caller = self;
  builder.stack(b, {.allocated_count = 1, .allocated_bytes = 8});
  builder.stack(a, {.allocated_count = 1, .allocated_bytes = 8});
  builder.stack(self, {.allocated_count = 1, .allocated_bytes = 8});
  auto report = report_of(builder);
  EXPECT_EQ(report.profile->damage.stacks_without_frames, report.profile->sites.size());
  EXPECT_EQ(report.profile->totals.counters.live_bytes(), 24u);
}

TEST(AnalyzerFrames, UnreadableNodesLoseFramesNotBytes) {
  RegionBuilder builder;
  builder.stack(builder.path({0x1000}, 12345), {.allocated_count = 1, .allocated_bytes = 8});
  builder.stack(99999, {.allocated_count = 1, .allocated_bytes = 9});
  auto report = report_of(builder);
  EXPECT_EQ(report.profile->damage.stacks_without_frames, 2u);
  EXPECT_EQ(report.profile->totals.counters.live_bytes(), 17u);
}

TEST(AnalyzerFrames, AModuleIsTheOneOfTheFramesGeneration) {
  RegionBuilder builder;
  builder.module({0x10000, 0x20000, 0x10000, "/lib/first.so", "1", 0});
  builder.module({0x10000, 0x20000, 0x8000, "/lib/second.so", "2", 3});
  builder.module({0x10000, 0x20000, 0x10000, "/lib/third.so", "3", 5});
  const std::map<uint32_t, const char*> expected = {{0, "/lib/first.so"}, {3, "/lib/second.so"}, {5, "/lib/third.so"}};
  for (uint32_t generation = 0; generation < 6; ++generation)
    builder.stack(builder.group({0x10100}, kRootNode, generation | (generation == 5 ? kNodeCut : 0)),
                  {.allocated_count = 1, .allocated_bytes = 100 - generation});
  auto report = report_of(builder);
  ASSERT_EQ(report.profile->sites.size(), 4u);  // one a module, and the code that lay there when none of them did
  model::ModuleMap modules(*report.region);
  for (uint32_t generation = 0; generation < 6; ++generation) {
    auto* instance = modules.resolve(0x10100, generation);
    auto known = expected.find(generation);
    ASSERT_EQ(instance != nullptr, known != expected.end()) << generation;
    if (instance) {
      EXPECT_EQ(modules.files()[instance->file].path, known->second);
    }
  }
  EXPECT_EQ(modules.resolve(0x20000, 0), nullptr);
  EXPECT_EQ(modules.resolve(0xffff, 0), nullptr);
}

// Of those that cover a pc the one that starts last, and of equal ones the last: as if each were looked at.
TEST(AnalyzerFrames, ModulesThatOverlap) {
  RegionBuilder builder;
  std::mt19937 random(1);
  std::vector<ModuleRow> rows;
  for (int i = 0; i < 60; ++i) {
    uint64_t start = random() % 100, end = i % 10 ? start + random() % 50 : start - random() % 20;
    rows.push_back({start, end, uint64_t(i), "/lib/" + std::to_string(i) + ".so", "", uint32_t(random() % 3)});
    builder.module(rows.back());
  }
  auto report = report_of(builder);
  model::ModuleMap modules(*report.region);
  for (uint32_t generation = 0; generation < 4; ++generation)
    for (uint64_t pc = 0; pc < 200; ++pc) {
      const ModuleRow* expected = nullptr;
      for (const ModuleRow& row : rows)
        if (row.generation == generation && row.start <= pc && pc < row.end && (!expected || row.start >= expected->start)) expected = &row;
      auto* instance = modules.resolve(pc, generation);
      ASSERT_EQ(instance != nullptr, expected != nullptr) << generation << ' ' << pc;
      if (instance) {
        EXPECT_EQ(instance->bias, expected->bias) << generation << ' ' << pc;
      }
    }
}

TEST(AnalyzerFrames, ThousandsOfModulesThatCoverAll) {
  constexpr int kModules = 20'000, kQuestions = 400'000;
  RegionBuilder builder(64 << 20);
  for (int i = 0; i < kModules; ++i) builder.module({0x1000, uint64_t{1} << 47, 0, "/lib/all.so", "", 7});
  auto report = report_of(builder);
  model::ModuleMap modules(*report.region);
  int found = 0;
  for (int i = 0; i < kQuestions; ++i) found += modules.resolve(0x400000 + uint64_t(i) * 8, i % 2 ? 7 : 8) != nullptr;
  EXPECT_EQ(kQuestions / 2, found);
}

TEST(AnalyzerFrames, ACallAtTheVeryEndOfAModule) {
  RegionBuilder builder;
  builder.module({0x10000, 0x20000, 0x10000, "/lib/first.so", "1"});
  builder.stack(builder.path({0x20000}), {.allocated_count = 1, .allocated_bytes = 8});
  EXPECT_EQ(offsets_of_first(report_of(builder)), std::vector<uint64_t>{0x10000});
}

TEST(AnalyzerFrames, TheShimsOwnFramesAreNotShown) {
  RegionBuilder builder;
  builder.module({0x10000, 0x20000, 0x10000, "/opt/lib/libtidemark.so", "1"});
  builder.stack(builder.path({0x10010, 0x10020, 0x5000}), {.allocated_count = 1, .allocated_bytes = 8});
  builder.stack(builder.path({0x10030, 0x5000}), {.allocated_count = 1, .allocated_bytes = 8});
  auto report = report_of(builder);
  ASSERT_EQ(report.profile->sites.size(), 1u);
  EXPECT_EQ(offsets_of_first(report), std::vector<uint64_t>{0x5000});
}

TEST(AnalyzerFrames, AHookInterruptedByAHandlerIsNotShown) {
  RegionBuilder builder;
  builder.module({0x10000, 0x20000, 0x10000, "/opt/lib/libtidemark.so", "1"});
  uint32_t hook = builder.path({0x10010, 0x5000});
  builder.stack(builder.group({0x3000}, builder.lone(0x4000, kRuleSignal, hook)), {.allocated_count = 1, .allocated_bytes = 8});
  auto report = report_of(builder);
  auto frames = report.profile->frames(report.profile->sites.at(0));
  EXPECT_EQ(offsets(frames), (std::vector<uint64_t>{0x3000, 0x4000, 0x5000}));
  EXPECT_TRUE(frames[1].signal);
  EXPECT_FALSE(frames[2].exact);  // it called the hook
}

TEST(AnalyzerProfile, EqualStacksAreOneSite) {
  RegionBuilder builder;
  // The same frames in nodes of another shape.
  uint32_t first = builder.stack(
      builder.path({0x1000, 0x2000}),
      {.allocated_count = 2, .allocated_bytes = 20, .freed_count = 1, .freed_bytes = 10, .first_tick = 5, .last_tick = 9});
  uint32_t outer = builder.lone(0x2000, kRuleRbp);
  builder.stack(builder.lone(0x1000, kRuleRsp, outer),
                {.allocated_count = 1, .allocated_bytes = 5, .first_tick = 3, .last_tick = 7});
  auto report = report_of(builder);
  ASSERT_EQ(report.profile->sites.size(), 1u);
  auto& site = report.profile->sites[0];
  EXPECT_EQ(site.stack_id, first < site.stack_id ? first : site.stack_id);
  EXPECT_EQ(site.records, 2u);
  EXPECT_EQ(site.counters.live_bytes(), 15u);
  EXPECT_EQ(site.counters.allocated_count, 3u);
  EXPECT_GE(site.peak_live_bytes, 15u);
  EXPECT_EQ(site.first_tick, 3u);
  EXPECT_EQ(site.last_tick, 9u);
}

TEST(AnalyzerProfile, OneSiteForALibraryLoadedTwice) {
  RegionBuilder builder;
  builder.module({0x10000, 0x20000, 0x10000, "/lib/plugin.so", "id", 0, 1});
  builder.module({0x50000, 0x60000, 0x50000, "/lib/plugin.so", "id", 1});
  builder.stack(builder.group({0x10100}, kRootNode, 0), {.allocated_count = 1, .allocated_bytes = 8});
  builder.stack(builder.group({0x50100}, kRootNode, 1), {.allocated_count = 1, .allocated_bytes = 8});
  EXPECT_EQ(report_of(builder).profile->sites.size(), 1u);
}

TEST(AnalyzerProfile, InheritedBlocksAreKeptApart) {
  RegionBuilder builder;
  builder.stack(builder.path({0x1000}), {.allocated_count = 4, .allocated_bytes = 40});
  builder.stack(
      builder.path({0x1000}),
      {.allocated_count = 3, .allocated_bytes = 300, .freed_count = 1, .freed_bytes = 100, .kind = StackKind::kInherited});
  auto report = report_of(builder);
  ASSERT_EQ(report.profile->sites.size(), 1u);
  EXPECT_EQ(report.profile->sites[0].counters.live_bytes(), 40u);
  EXPECT_EQ(report.profile->sites[0].inherited_bytes, 200u);
  EXPECT_EQ(report.profile->sites[0].inherited_count, 2u);
  EXPECT_EQ(report.profile->totals.counters.allocated_bytes, 40u);
  EXPECT_EQ(report.profile->totals.inherited_bytes, 200u);
}

TEST(AnalyzerProfile, OverflowIsASiteOfItsOwn) {
  RegionBuilder builder;
  builder.stack(kRootNode, {.allocated_count = 1, .allocated_bytes = 8});  // a stack without frames
  builder.stack(kRootNode, {.allocated_count = 5, .allocated_bytes = 80, .kind = StackKind::kOverflow});
  auto report = report_of(builder);
  ASSERT_EQ(report.profile->sites.size(), 2u);
  EXPECT_TRUE(report.profile->sites[0].overflow);
  EXPECT_TRUE(report.profile->frames(report.profile->sites[0]).empty());
  EXPECT_EQ(report.profile->totals.overflow.allocated_bytes, 80u);
  EXPECT_EQ(report.profile->totals.counters.allocated_bytes, 88u);
}

TEST(AnalyzerProfile, NothingIsNegativeAndNothingWraps) {
  RegionBuilder builder;
  builder.stack(builder.path({0x1000}), {.allocated_count = 1, .allocated_bytes = 8, .freed_count = 2, .freed_bytes = 16});
  builder.stack(builder.path({0x2000}), {.allocated_count = UINT64_MAX, .allocated_bytes = UINT64_MAX});
  builder.stack(builder.path({0x2000}), {.allocated_count = UINT64_MAX, .allocated_bytes = UINT64_MAX});
  auto report = report_of(builder);
  auto& counters = report.profile->totals.counters;
  EXPECT_EQ(counters.allocated_bytes, UINT64_MAX);
  EXPECT_EQ(counters.freed_bytes, 8u);
  for (auto& site : report.profile->sites) EXPECT_LE(site.counters.freed_bytes, site.counters.allocated_bytes);
}

TEST(AnalyzerProfile, UnknownKindsOfStacksAreSkipped) {
  RegionBuilder builder;
  builder.stack(builder.path({0x1000}), {.allocated_count = 1, .allocated_bytes = 8, .kind = StackKind(9)});
  EXPECT_TRUE(report_of(builder).profile->sites.empty());
}

TEST(AnalyzerProfile, SortedByLiveBytesThenById) {
  RegionBuilder builder;
  builder.stack(builder.path({0x1000}), {.allocated_count = 1, .allocated_bytes = 8});
  uint32_t a = builder.stack(builder.path({0x2000}), {.allocated_count = 1, .allocated_bytes = 80});
  uint32_t b = builder.stack(builder.path({0x3000}), {.allocated_count = 1, .allocated_bytes = 80});
  auto report = report_of(builder);
  EXPECT_EQ(report.profile->sites[0].stack_id, a);
  EXPECT_EQ(report.profile->sites[1].stack_id, b);
}

TEST(AnalyzerProfile, OnlyTheFirstOnesAreInOrder) {
  RegionBuilder builder;
  constexpr uint64_t kMany = 50;
  for (uint64_t i = 0; i < kMany; ++i) builder.stack(builder.path({0x1000 + 16 * i}), {.allocated_count = 1, .allocated_bytes = 1 + i * 7 % kMany});
  auto region = region::Region::parse(builder.used());
  auto some = model::build_profile(region, elsewhere(), 3);
  ASSERT_EQ(some->sites.size(), kMany);
  for (uint64_t i = 0; i < 3; ++i) EXPECT_EQ(some->sites[i].counters.live_bytes(), kMany - i);
  EXPECT_EQ(model::build_profile(region, elsewhere(), 0)->sites.size(), kMany);
  EXPECT_EQ(model::build_profile(region, elsewhere(), kMany + 1)->sites.back().counters.live_bytes(), 1u);
}

TEST(AnalyzerProfile, TotalsNeedNoFrames) {
  RegionBuilder builder;
  builder.stack(builder.path({0x1000}), {.allocated_count = 4, .allocated_bytes = 40, .freed_count = 1, .freed_bytes = 10});
  builder.stack(builder.path({0x1000}), {.allocated_count = 3, .allocated_bytes = 300, .freed_count = 1, .freed_bytes = 100, .kind = StackKind::kInherited});
  builder.stack(kRootNode, {.allocated_count = 5, .allocated_bytes = 80, .kind = StackKind::kOverflow});
  builder.stack(builder.path({0x2000}), {.allocated_count = 7, .allocated_bytes = 70, .kind = StackKind(9)});
  builder.header().peak_live_bytes = 500;
  auto report = report_of(builder);
  for (const model::Totals& totals : {report.profile->totals, model::read_totals(*report.region)}) {
    EXPECT_EQ(totals.counters.allocated_bytes, 120u);
    EXPECT_EQ(totals.counters.live_bytes(), 110u);
    EXPECT_EQ(totals.overflow.allocated_count, 5u);
    EXPECT_EQ(totals.inherited_bytes, 200u);
    EXPECT_EQ(totals.inherited_count, 2u);
    EXPECT_EQ(totals.peak_live_bytes, 500u);
  }
}

TEST(AnalyzerProfile, AgeOfTheOldestLiveBlock) {
  auto age = [](StackRow row, uint32_t last_walk = 1590) {
    RegionBuilder builder;  // ends at 100 s
    builder.header().coverage[kLastWalkTick] = last_walk;
    builder.stack(builder.path({0x1000}), row);
    return report_of(builder).profile->sites.at(0).oldest_live;
  };
  EXPECT_FALSE(age({.allocated_count = 2, .allocated_bytes = 8, .freed_count = 2, .freed_bytes = 8}));

  auto never_freed = age({.allocated_count = 2, .allocated_bytes = 8, .first_tick = 160});
  EXPECT_DOUBLE_EQ(never_freed->seconds, 90);
  EXPECT_FALSE(never_freed->is_bound);

  auto walked =
      age({.allocated_count = 2, .allocated_bytes = 8, .freed_count = 1, .freed_bytes = 4, .first_tick = 160, .oldest = 321});
  EXPECT_DOUBLE_EQ(walked->seconds, 80);
  EXPECT_FALSE(walked->is_bound);

  auto walked_long_ago =
      age({.allocated_count = 2, .allocated_bytes = 8, .freed_count = 1, .freed_bytes = 4, .first_tick = 160, .oldest = 321}, 800);
  EXPECT_DOUBLE_EQ(walked_long_ago->seconds, 80);
  EXPECT_TRUE(walked_long_ago->is_bound) << "it may have been freed in the 50 s since";

  auto not_walked = age({.allocated_count = 2, .allocated_bytes = 8, .freed_count = 1, .freed_bytes = 4, .first_tick = 160});
  EXPECT_DOUBLE_EQ(not_walked->seconds, 90);
  EXPECT_TRUE(not_walked->is_bound);
}

TEST(AnalyzerProfile, EqualStacksAreOneHoweverManyFramesTheirCallerCalled) {
  RegionBuilder builder;
  constexpr uint64_t kMany = 20;
  for (int twice = 0; twice < 2; ++twice)
    for (uint64_t i = 0; i < kMany; ++i) builder.stack(builder.path({0x1000 + 16 * i, 0x9000}), {.allocated_count = 1, .allocated_bytes = 8});
  auto report = report_of(builder);
  ASSERT_EQ(report.profile->sites.size(), kMany);
  for (const model::Site& site : report.profile->sites) EXPECT_EQ(site.records, 2u);
}

TEST(AnalyzerProfile, PeaksOfMergedRecordsMayHaveBeenAtOnce) {
  RegionBuilder builder;
  for (uint64_t peak : {50, 60, 10}) {
    uint32_t id = builder.stack(builder.path({0x1000}), {.allocated_count = 9, .allocated_bytes = 900, .freed_count = 9, .freed_bytes = 900});
    builder.at<StackRecord>(id).peak_live_bytes = peak;
  }
  builder.header().peak_live_bytes = 500;
  auto report = report_of(builder);
  ASSERT_EQ(report.profile->sites.size(), 1u);
  EXPECT_EQ(report.profile->sites[0].peak_live_bytes, 60u);
  EXPECT_EQ(report.profile->sites[0].peak_error_bytes, 60u);   // all three at once: 120
  EXPECT_EQ(report.profile->coverage[kPeakErrorBytes], 60u);
}

TEST(AnalyzerProfile, PeakIsAtLeastWhatIsLive) {
  RegionBuilder builder;
  builder.stack(builder.path({0x1000}), {.allocated_count = 1, .allocated_bytes = 800});
  builder.header().peak_live_bytes = 10;
  EXPECT_EQ(report_of(builder).profile->totals.peak_live_bytes, 800u);
}

TEST(AnalyzerProfile, PeakIsAtLeastThatOfAnyStack) {
  RegionBuilder builder;
  for (uint64_t peak : {7000, 10000, 300}) {
    uint32_t id = builder.stack(builder.path({0x1000 + peak}), {.allocated_count = 20, .allocated_bytes = 200'000, .freed_count = 20, .freed_bytes = 200'000});
    builder.at<StackRecord>(id).peak_live_bytes = peak;
  }
  builder.header().peak_live_bytes = 288;
  builder.header().live_slack_bytes = 65536;
  auto report = report_of(builder);
  for (const model::Totals& totals : {report.profile->totals, model::read_totals(*report.region)}) {
    EXPECT_EQ(totals.peak_live_bytes, 10000u);
    EXPECT_EQ(totals.peak_error_bytes, 288u + 65536 - 10000) << "never more than the process's own figure may miss";
  }
}

// Of a stack that `threads` shared, with blocks of up to 100 bytes.
struct SharedStack {
  RegionBuilder builder;
  uint32_t stripes;
  explicit SharedStack(uint32_t threads, uint64_t allocated_bytes = 1 << 20) {
    builder.header().threads_peak = threads;
    builder.header().peak_live_bytes = 1 << 20;
    uint32_t id = builder.stack(builder.path({0x1000}), {.allocated_count = 1, .allocated_bytes = allocated_bytes, .freed_count = 1, .freed_bytes = allocated_bytes});
    builder.at<StackRecord>(id).peak_live_bytes = 50;
    stripes = builder.shared(id);
    builder.at<SharedCounters>(stripes).max_request = 100;
  }
  uint64_t error() {
    auto report = report_of(builder);
    EXPECT_EQ(report.profile->coverage[kPeakErrorBytes], report.profile->sites[0].peak_error_bytes);
    return report.profile->sites[0].peak_error_bytes;
  }
};

TEST(AnalyzerProfile, SharedStacksBoundTheErrorOfThePeak) { EXPECT_EQ(SharedStack(4).error(), 300u + (5 + 3) * 16 * 100); }

TEST(AnalyzerProfile, OnlyThreadsThatShareOneStripeAreMoreThanFour) {
  SharedStack own(9), all(9), denied(9);
  EXPECT_EQ(own.error(), 300u + (5 + 3) * 16 * 100);
  all.builder.at<SharedCounters>(all.stripes).freed_count = 1;
  EXPECT_EQ(all.error(), 800u + (5 + 8) * 16 * 100);
  denied.builder.header().coverage[kSharedDenied] = 1;
  EXPECT_EQ(denied.error(), 800u + (5 + 8) * 16 * 100);
}

TEST(AnalyzerProfile, APeakIsNeverAboveTheProcessNorAboveAllThatWasAllocated) {
  EXPECT_EQ(SharedStack(4, 1000).error(), 1000u - 50);
  SharedStack shared(4);
  shared.builder.header().peak_live_bytes = 2000;
  EXPECT_EQ(shared.error(), 2000u - 50);
  shared.builder.header().live_slack_bytes = 500;
  EXPECT_EQ(shared.error(), 2500u - 50);
}

}  // namespace
}  // namespace tidemark::test
