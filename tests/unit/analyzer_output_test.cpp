// The two reports: the keys that others rely on, and what a person must be told.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "analyzer/output/human.h"
#include "analyzer/output/json.h"
#include "analyzer/output/text.h"
#include "tests/unit/support/parsed.h"

namespace tidemark::test {
namespace {

using namespace format;
using nlohmann::json;
using output::Report;
using output::ReportOptions;

std::string text_of(const Report& report, ReportOptions options = {.top = 10}) {
  std::ostringstream out;
  output::write_text(out, report, options);
  return out.str();
}

json json_of(const Report& report, ReportOptions options = {}) {
  std::ostringstream out;
  output::write_json(out, report, options);
  return json::parse(out.str());
}

#define EXPECT_CONTAINS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)
#define EXPECT_LACKS(text, part) EXPECT_EQ((text).find(part), std::string::npos) << (text)

RegionBuilder leaking_server() {
  RegionBuilder builder;
  builder.module({0x10000, 0x20000, 0x10000, "/opt/no/such/libleak.so", "id"});
  builder.stack(builder.path({0x10100, 0x10200}), {.allocated_count = 1000,
                                                   .allocated_bytes = 3 << 20,
                                                   .freed_count = 10,
                                                   .freed_bytes = 1 << 20,
                                                   .first_tick = 16,
                                                   .last_tick = 1584});
  builder.stack(builder.path({0x17000}), {.allocated_count = 1, .allocated_bytes = 100});
  builder.stack(builder.path({0x18000}), {.allocated_count = 1, .allocated_bytes = 100, .freed_count = 1, .freed_bytes = 100});
  return builder;
}

TEST(AnalyzerJson, HasTheKeysOfTheIssue) {
  RegionBuilder builder = leaking_server();
  json report = json_of(report_of(builder));
  for (const char* key : {"pid", "ppid", "exe", "cmdline", "started_at", "duration_s", "ending", "exit_status", "signal"})
    EXPECT_TRUE(report["process"].contains(key)) << key;
  for (const char* key : {"allocated_bytes", "allocated_count", "freed_bytes", "freed_count", "live_bytes", "live_count",
                          "peak_live_bytes", "inherited_bytes", "inherited_count"})
    EXPECT_TRUE(report["totals"].at(key).is_number()) << key;
#define X(enumerator, key, text) EXPECT_EQ(report["coverage"].at(#key), 0) << #key;
  TIDEMARK_LOSSES(X)
  TIDEMARK_FACTS(X)
#undef X
  ASSERT_EQ(report["sites"].size(), 3u);
  for (const char* key :
       {"stack_id", "live_bytes", "live_count", "allocated_bytes", "allocated_count", "peak_live_bytes", "oldest_live_s",
        "lifetime_s", "lifetime_below_s", "lifetime_unknown_count", "inherited_live_bytes", "inherited_live_count", "frames"})
    EXPECT_TRUE(report["sites"][0].contains(key)) << key;
  for (const char* key : {"function", "module", "file", "line", "inlined"})
    EXPECT_TRUE(report["sites"][0]["frames"][0].contains(key)) << key;
  EXPECT_EQ(report["process"]["cmdline"], "server --port 80");
  EXPECT_EQ(report["process"]["started_at"], "2023-11-14T22:13:20.000Z");
  EXPECT_EQ(report["process"]["ending"], "killed");
  EXPECT_TRUE(report["process"]["signal"].is_null());
  EXPECT_EQ(report["sites"][0]["live_bytes"], 2 << 20);
  EXPECT_EQ(report["sites"][0]["lifetime_below_s"], 1.0);
  EXPECT_TRUE(report["sites"][0]["lifetime_s"].is_null());
  EXPECT_EQ(report["sites"][0]["frames"][0]["module"], "/opt/no/such/libleak.so");
  EXPECT_TRUE(report["sites"][2]["oldest_live_s"].is_null());
}

TEST(AnalyzerJson, TopLimitsTheSites) {
  RegionBuilder builder = leaking_server();
  EXPECT_EQ(json_of(report_of(builder), {.top = 2})["sites"].size(), 2u);
  EXPECT_EQ(json_of(report_of(builder), {.top = 0})["sites"].size(), 3u);
  EXPECT_EQ(json_of(report_of(builder), {.top = 9})["sites_total"], 3);
}

TEST(AnalyzerJson, LifetimesAndDetails) {
  RegionBuilder builder;
  uint32_t id = builder.stack(builder.path({0x1000}),
                              {.allocated_count = 11, .allocated_bytes = 110, .freed_count = 10, .freed_bytes = 100});
  uint32_t detail_id = builder.detail(id);
  Detail& detail = builder.at<Detail>(detail_id);
  detail.lifetime[9] = 10;
  detail.max_age_ticks = 40;
  detail.cohort_ticks = 16;
  detail.cohort[2] = 1;
  detail.series_ticks = 16;
  detail.series_used = UINT32_MAX;  // forged
  json site = json_of(report_of(builder), {.details = true})["sites"][0];
  EXPECT_EQ(site["lifetime_s"]["max"], 2.5);
  EXPECT_LE(site["lifetime_s"]["p50"], site["lifetime_s"]["p90"]);
  EXPECT_TRUE(site["lifetime_below_s"].is_null());
  EXPECT_EQ(site["details"][0]["survivors"]["cohorts"][0]["born_s"], 2.0);
  EXPECT_EQ(site["details"][0]["series"]["points"].size(), kSeriesPoints);
  EXPECT_FALSE(json_of(report_of(builder))["sites"][0].contains("details"));
}

TEST(AnalyzerJson, BrokenUtf8IsReplaced) {
  RegionBuilder builder;
  builder.set_command({"caf\xe9", "\xff\xfe"});
  EXPECT_EQ(json_of(report_of(builder))["process"]["argv"].size(), 2u);
}

TEST(AnalyzerText, AsksTheKernelUnlessTheOomKillerWasSeen) {
  using Certainty = model::OutOfMemory::Certainty;
  Report report = report_of(leaking_server());
  auto text_when = [&](Certainty certainty) {
    report.profile->process.oom = {1 << 20, 1 << 19, 5 << 20, true, certainty};
    return text_of(report);
  };
  EXPECT_CONTAINS(text_when(Certainty::kSeen), "killed by the OOM killer (its cgroup counted it)");
  EXPECT_LACKS(text_when(Certainty::kSeen), "dmesg");
  EXPECT_CONTAINS(text_when(Certainty::kInferred), "killed, by the OOM killer as it seems");
  EXPECT_CONTAINS(text_when(Certainty::kInferred), "dmesg");
  EXPECT_CONTAINS(text_when(Certainty::kPossible), "killed, perhaps by the OOM killer");
  EXPECT_CONTAINS(text_when(Certainty::kPossible), "this one had only 5.0 MiB");
  EXPECT_CONTAINS(text_when(Certainty::kPossible), "dmesg");
  EXPECT_EQ(json_of(report)["process"]["oom"]["certainty"], "possible");
}

TEST(AnalyzerText, SaysHowItEndedFirst) {
  RegionBuilder builder = leaking_server();
  builder.header().ledger_path = builder.text("/proc/99/fd/3");
  std::string text = text_of(report_of(builder));
  EXPECT_TRUE(text.starts_with("server (pid 4711): ended unseen, by a signal (SIGTERM, SIGSEGV, SIGKILL, OOM killer), a raw exit_group or "
                               "loss of power, at about "))
      << text;
  EXPECT_CONTAINS(text, "after 1 min 40 s\n") << "it was the one that `tidemark run` launched";
  EXPECT_CONTAINS(text, "2.0 MiB");
  EXPECT_CONTAINS(text, "libleak.so+0x100");
  EXPECT_CONTAINS(text, "oldest at most 1 min 39 s, last allocation 1.0 s before the end");
  EXPECT_CONTAINS(text, "the file is gone");
  EXPECT_CONTAINS(text, "tidemark report --json server.4711.tide");
  EXPECT_LACKS(text, "lacks");

  builder.header().ending = uint32_t(Ending::kSignaled);
  builder.header().signal = 11;
  EXPECT_CONTAINS(text_of(report_of(builder)), "killed by signal 11 (SIGSEGV, Segmentation fault)");
  builder.header().ending = uint32_t(Ending::kExited);
  builder.header().exit_status = 3;
  EXPECT_CONTAINS(text_of(report_of(builder)), "exited 3 at ");
}

TEST(AnalyzerText, SaysWhoWouldHaveSeenTheSignal) {
  constexpr const char* kWho = ", after 1 min 40 s; `tidemark run` tells which for the process it launches\n";
  RegionBuilder builder = leaking_server();
  builder.header().ledger_path = builder.text("/proc/99/fd/3");
  builder.header().origin = uint32_t(Origin::kForked);
  EXPECT_CONTAINS(text_of(report_of(builder)), kWho);
  builder.header().origin = uint32_t(Origin::kExeced);
  EXPECT_CONTAINS(text_of(report_of(builder)), kWho);
  builder.header().origin = uint32_t(Origin::kLaunched);
  EXPECT_LACKS(text_of(report_of(builder)), "tells which");
  builder.header().ledger_path = builder.text("/var/tmp/sh.4711.tide");   // by LD_PRELOAD alone
  EXPECT_CONTAINS(text_of(report_of(builder)), kWho);
  builder.header().ending = uint32_t(Ending::kExited);
  EXPECT_LACKS(text_of(report_of(builder)), "tells which");
}

TEST(AnalyzerText, NothingLive) {
  RegionBuilder builder;
  builder.stack(builder.path({0x8000}), {.allocated_count = 1, .allocated_bytes = 100, .freed_count = 1, .freed_bytes = 100});
  EXPECT_CONTAINS(text_of(report_of(builder)), "Nothing is live");
}

TEST(AnalyzerText, NothingAllocated) {
  std::string text = text_of(report_of(RegionBuilder()));
  EXPECT_CONTAINS(text, "\nNothing is live: nothing was allocated.\n");
  RegionBuilder uncounted;
  uncounted.header().coverage[kUntrackedAllocations] = 3;
  EXPECT_CONTAINS(text_of(report_of(uncounted)), "\nNothing is known to be live: what was allocated could not be counted.\n");
  EXPECT_LACKS(text, "has been freed");
}

TEST(AnalyzerText, WhatIsInheritedIsLive) {
  RegionBuilder builder;
  builder.stack(builder.path({0xa000}), {.allocated_count = 7, .allocated_bytes = 70, .kind = StackKind::kInherited});
  std::string idle = text_of(report_of(builder));
  EXPECT_CONTAINS(idle, "nothing of its own\n");
  EXPECT_CONTAINS(idle, "\nNothing of its own is live: nothing was allocated. What it inherited still is, 70 bytes in 7 blocks.\n");
  builder.stack(builder.path({0x8000}), {.allocated_count = 1, .allocated_bytes = 100, .freed_count = 1, .freed_bytes = 100});
  EXPECT_CONTAINS(text_of(report_of(builder)), "\nNothing of its own is live: every block that it allocated has been freed. What it inherited still is, 70 bytes in 7 blocks.\n");
}

TEST(AnalyzerText, ChurnIsShownLastWhereAllIsAskedFor) {
  RegionBuilder builder = leaking_server();
  builder.stack(builder.path({0x9000}), {.allocated_count = 50, .allocated_bytes = 90, .freed_count = 50, .freed_bytes = 90});
  builder.stack(builder.path({0xa000}), {.allocated_count = 7, .allocated_bytes = 70, .kind = StackKind::kInherited});
  std::string all = text_of(report_of(builder), {.top = 0});
  EXPECT_CONTAINS(all, "Top 2 of 5 call stacks by live bytes, 100 % of all that is live");
  EXPECT_CONTAINS(all, "\nNothing live, by blocks allocated: 2 call stacks\n\n#3  0 bytes live in 0 blocks, 0.0 % of all live bytes");
  size_t more = all.find("0x9000 (no module"), less = all.find("libleak.so+0x8000");
  EXPECT_NE(less, std::string::npos) << all;
  EXPECT_LT(all.find("\n#3 "), more) << all;
  EXPECT_LT(more, less) << "of larger bytes, but fewer blocks";
  EXPECT_LACKS(all, "0xa000") << "allocated nothing itself";
  EXPECT_LACKS(text_of(report_of(builder), {.top = 9}), "Nothing live");
}

TEST(AnalyzerText, ChurnOfAProcessWithNothingLive) {
  RegionBuilder builder;
  builder.stack(builder.path({0x8000}), {.allocated_count = 1, .allocated_bytes = 100, .freed_count = 1, .freed_bytes = 100});
  std::string all = text_of(report_of(builder), {.top = 0});
  EXPECT_CONTAINS(all, "Nothing is live: every block");
  EXPECT_CONTAINS(all, "Nothing live, by blocks allocated: 1 call stack\n\n#1  0 bytes live");
  EXPECT_LACKS(all, "tidemark report --json") << "it has shown all";
}

TEST(AnalyzerText, AdvisesALargerRegionThanThisOne) {
  auto advice = [](uint64_t bytes, Origin origin) {
    RegionBuilder builder;
    builder.header().region_bytes = bytes;
    builder.header().origin = uint32_t(origin);
    builder.header().coverage[kCutStacks] = 1;
    builder.stack(kRootNode, {.allocated_count = 1, .allocated_bytes = 10, .kind = StackKind::kOverflow});
    return text_of(report_of(builder));
  };
  EXPECT_CONTAINS(advice(64 << 20, Origin::kLaunched), "room for more: tidemark run --region_size=256M -- COMMAND\n");
  EXPECT_CONTAINS(advice(16 << 20, Origin::kForked), "room for more: tidemark run --child_region_size=64M -- COMMAND\n");
  EXPECT_CONTAINS(advice(256 << 20, Origin::kLaunched), "--region_size=1G --");
  EXPECT_CONTAINS(advice(512 << 20, Origin::kLaunched), "--region_size=1G --");
  EXPECT_CONTAINS(advice((1 << 20) + kPageBytes, Origin::kLaunched), "--region_size=4112K --");
  std::string largest = advice(kMaxRegionBytes, Origin::kLaunched);
  EXPECT_CONTAINS(largest, "This region was of the largest size there is, 1G\n");
  EXPECT_LACKS(largest, "A larger region");
}

TEST(AnalyzerText, CallersThatAreNotKnown) {
  constexpr const char* kRemark = "its callers are not known";
  auto text_of_stack = [](auto leaf_of) {
    RegionBuilder builder;
    builder.module({0x10000, 0x20000, 0x10000, "/opt/no/such/go", "id"});
    builder.module({0x30000, 0x40000, 0x30000, "/opt/no/such/libc.so.6", "id2"});
    builder.stack(leaf_of(builder), {.allocated_count = 1, .allocated_bytes = 100});
    return text_of(report_of(builder));
  };
  EXPECT_CONTAINS(text_of_stack([](RegionBuilder& b) { return b.path({0x10100, 0x7000}); }), kRemark);
  EXPECT_LACKS(text_of_stack([](RegionBuilder& b) { return b.path({0x10100, 0x10200}); }), kRemark);
  std::string guessed = text_of_stack([](RegionBuilder& b) { return b.path({0x10100}, b.lone(0x10200, kRuleGuess)); });
  EXPECT_CONTAINS(guessed, "[guessed]");
  EXPECT_CONTAINS(guessed, kRemark);
  EXPECT_LACKS(text_of_stack([](RegionBuilder& b) { return b.lone(0x10200, kRuleGuess, b.path({0x10100})); }), kRemark) << "not the last";
  EXPECT_LACKS(text_of_stack([](RegionBuilder& b) { return b.path({0x10100}, b.lone(0x30200, kRuleGuess)); }), kRemark) << "a thread's start";
}

TEST(AnalyzerText, StacksThatBeginInCodeWithoutUnwindData) {
  RegionBuilder builder;
  builder.module({0x10000, 0x20000, 0x10000, "/opt/no/such/vm", "id"});
  builder.stack(builder.path({0x10100, 0x7000}), {.allocated_count = 3, .allocated_bytes = 300, .freed_count = 1, .freed_bytes = 100});
  builder.stack(builder.path({0x10200, 0x7000}), {.allocated_count = 1, .allocated_bytes = 100});
  builder.stack(builder.path({0x10100, 0x7000, 0x10300}), {.allocated_count = 4, .allocated_bytes = 400});   // these callers are known
  builder.stack(builder.path({0x7000}, kCutNode), {.allocated_count = 2, .allocated_bytes = 200});            // and these cut off
  builder.module({0x30000, 0x40000, 0x30000, "/opt/no/such/libc.so.6", "id2"});
  builder.stack(builder.path({0x10100}, builder.lone(0x30200, kRuleGuess)), {.allocated_count = 5, .allocated_bytes = 500});   // a thread's start
  builder.stack(builder.lone(0x10100, kRuleGuess, builder.path({0x10200})), {.allocated_count = 5, .allocated_bytes = 500});
  builder.stack(builder.path({0x10100}, builder.lone(0x10300, kRuleGuess)), {.allocated_count = 1, .allocated_bytes = 100});
  EXPECT_CONTAINS(text_of(report_of(builder)), "3 call stacks begin in code without unwind data (generated, mostly) that keeps no frame pointer, with 23.8 % of all allocations and 20.0 % of the "
                                            "live bytes");
  json report = json_of(report_of(builder));
  EXPECT_EQ(report["callers_unknown"], (json{{"stacks", 3}, {"allocated_count", 5}, {"live_bytes", 400}}));
  int marked = 0;
  for (const json& site : report["sites"]) marked += site.contains("callers_unknown");
  EXPECT_EQ(marked, 3);
}

TEST(AnalyzerText, LossesInWords) {
  RegionBuilder builder = leaking_server();
  builder.header().coverage[kUntrackedAllocations] = 1234;
  builder.header().coverage[kUntrackedBytes] = 99;
  builder.header().coverage[kCutStacks] = 1;
  builder.stack(kRootNode, {.allocated_count = 1, .allocated_bytes = 4 << 20, .kind = StackKind::kOverflow});
  std::string text = text_of(report_of(builder));
  EXPECT_CONTAINS(text, "1,234 allocations found no memory for metadata and are not counted, 99 bytes in those\n");
  EXPECT_CONTAINS(text, "  - 1 stack is cut, by depth or at a frame that could not be followed");
  EXPECT_CONTAINS(text, "66.7 % of what is live");
  EXPECT_CONTAINS(text, "(all call stacks that found the stack table full)");
}

TEST(AnalyzerText, ForeignHeapAndRefusedChildren) {
  RegionBuilder builder;
  builder.header().heap_flags = kHeapForeign;
  RunLedger& ledger = builder.header().ledger;
  std::memcpy(ledger.magic, kLedgerMagic, sizeof(kLedgerMagic));
  ledger.refused = 1;
  ledger.notes[0] = {55, 13, uint32_t(Refusal::kOpenFolder), 0, "child", "/var/tmp"};
  std::string text = text_of(report_of(builder));
  EXPECT_CONTAINS(text, "brings its own allocator");
  EXPECT_CONTAINS(text, "child (pid 55) ran unrecorded: the region folder could not be opened: /var/tmp: Permission denied");
}

TEST(AnalyzerText, RecursionAndDeepStacksAreShortened) {
  RegionBuilder builder;
  std::vector<uint64_t> recursion(500, 0x5000), deep;
  for (uint64_t i = 0; i < 500; ++i) deep.push_back(0x100000 + i);
  builder.stack(builder.path(recursion), {.allocated_count = 1, .allocated_bytes = 100});
  builder.stack(builder.path(deep, kCutNode), {.allocated_count = 1, .allocated_bytes = 100});
  std::string text = text_of(report_of(builder));
  EXPECT_CONTAINS(text, "× 500");
  EXPECT_CONTAINS(text, "… 474 more frames");
  EXPECT_CONTAINS(text, "outer frames were not kept");
  EXPECT_CONTAINS(text, "--full");
  std::string full = text_of(report_of(builder), {.top = 10, .full = true});
  EXPECT_LACKS(full, "more frames");
  EXPECT_GT(std::count(full.begin(), full.end(), '\n'), 1000);
}

TEST(AnalyzerText, CannotSteerTheTerminal) {
  RegionBuilder builder;
  builder.header().name = builder.text("evil\x1b[2J");
  builder.set_command({"a\nb", "\xc2\x9b"});
  builder.module({0x10000, 0x20000, 0x10000, "/tmp/x\x1b[31m.so", "id"});
  builder.stack(builder.path({0x10100}), {.allocated_count = 1, .allocated_bytes = 100});
  std::string text = text_of(report_of(builder));
  EXPECT_LACKS(text, "\x1b");
  EXPECT_LACKS(text, "\xc2\x9b");
  EXPECT_CONTAINS(text, "evil\\x1b[2J");
}

// Without the last page that is used, and the Report of what is left.
Report cut_off(const RegionBuilder& builder) {
  auto bytes = builder.used();
  bytes.resize(bytes.size() - kPageBytes);
  return report_of(bytes);
}

TEST(AnalyzerText, TruncatedFile) {
  RegionBuilder builder = leaking_server();  // the last page is the only one of stacks
  std::string text = text_of(cut_off(builder));
  EXPECT_CONTAINS(text, "the file is truncated: 1 of its");
  EXPECT_CONTAINS(text, "live at end  unknown (the file is cut off)\n");
  EXPECT_CONTAINS(text, "allocated    unknown (the file is cut off)\n");
  EXPECT_CONTAINS(text, "freed        unknown (the file is cut off)\n");
  EXPECT_CONTAINS(text, "\nNext\n  copy the whole file again");
  EXPECT_EQ(json_of(cut_off(builder))["truncated"], true);
  EXPECT_EQ(json_of(cut_off(builder))["totals"]["live_bytes"], 0);

  builder.page(PageKind::kStacks);
  text = text_of(cut_off(builder));
  EXPECT_CONTAINS(text, "live at end  unknown (the file is cut off); in what is left of it 2.0 MiB (2,097,252 bytes) in 991 blocks\n")
      << "freed blocks may be counted on what is missing";
  EXPECT_CONTAINS(text, "allocated    at least 3.0 MiB in 1,002 blocks\n");
  EXPECT_CONTAINS(text, "freed        at least 1.0 MiB in 11 blocks\n");
  EXPECT_CONTAINS(text, "100 % of what is left of the file");
}

TEST(AnalyzerText, FiguresAreKnownWhereOnlyOtherPagesAreMissing) {
  RegionBuilder builder = leaking_server();
  builder.page(PageKind::kEvents);
  std::string text = text_of(cut_off(builder));
  EXPECT_CONTAINS(text, "live at end  2.0 MiB (2,097,252 bytes) in 991 blocks\n");
  EXPECT_CONTAINS(text, "copy the whole file again");
  EXPECT_EQ(json_of(cut_off(builder))["truncated"], true);
  EXPECT_EQ(json_of(report_of(builder))["truncated"], false) << "cut right behind what is used";
}

TEST(AnalyzerText, NoHeadingWhereNothingFollows) {
  RegionBuilder builder;
  builder.header().ending = uint32_t(Ending::kExited);
  EXPECT_LACKS(text_of(report_of(builder)), "Next");
}

TEST(AnalyzerText, ControlCharactersAreShown) {
  using output::printable;
  EXPECT_EQ(printable("caf\u00e9 \u015b \u201b \U0001f49b"), "caf\u00e9 \u015b \u201b \U0001f49b");  // three of them end in byte 9b
  EXPECT_EQ(printable("\x1b[31m\n\x7f"), "\\x1b[31m\\x0a\\x7f");
  EXPECT_EQ(printable("\xc2\x9b"), "\\xc2\\x9b");
  EXPECT_EQ(printable("\x9b \xc3\xa9\x9b"), "\\x9b \xc3\xa9\\x9b");
}

TEST(AnalyzerHuman, Numbers) {
  using namespace output;
  EXPECT_EQ(human_bytes(0), "0 bytes");
  EXPECT_EQ(human_bytes(1), "1 byte");
  EXPECT_EQ(human_bytes(1536), "1.5 KiB");
  EXPECT_EQ(human_bytes((1 << 20) - 1), "1.0 MiB");
  EXPECT_EQ(human_bytes(UINT64_MAX), "16.0 EiB");
  EXPECT_EQ(exact_bytes(1 << 20), "1.0 MiB (1,048,576 bytes)");
  EXPECT_EQ(human_count(999), "999");
  EXPECT_EQ(human_count(1234567), "1,234,567");
  EXPECT_EQ(human_duration(-1), "0 s");
  EXPECT_EQ(human_duration(0.0625), "63 ms");
  EXPECT_EQ(human_duration(1.5), "1.5 s");
  EXPECT_EQ(human_duration(59.7), "1 min");
  EXPECT_EQ(human_duration(100), "1 min 40 s");
  EXPECT_EQ(human_duration(7980), "2 h 13 min");
  EXPECT_EQ(human_duration(90000), "1 d 1 h");
  EXPECT_EQ(human_share(0, 0), "0 %");
  EXPECT_EQ(human_share(1, 3), "33.3 %");
  EXPECT_EQ(human_share(1, 100000), "< 0.1 %");
  EXPECT_EQ(human_share(99999, 100000), "> 99.9 %");
  EXPECT_EQ(human_share(5, 5), "100 %");
  EXPECT_EQ(iso_time(INT64_MIN).empty(), false);
}

}  // namespace
}  // namespace tidemark::test
