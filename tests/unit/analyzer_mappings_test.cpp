// Mappings that the program made itself, as the shim notes them and as a damaged file may show them.
#include <gtest/gtest.h>

#include <sstream>

#include "analyzer/output/text.h"
#include "tests/unit/support/parsed.h"

namespace tidemark::test {
namespace {

using namespace format;
using model::MappingSite;

constexpr uint64_t kMiB = 1 << 20;

class AnalyzerMappings : public testing::Test {
 protected:
  MappingStack& add(uint32_t leaf, uint64_t resident, uint64_t mapped, uint64_t unmapped = 0, uint64_t baseline = 0) {
    if (page_ == 0) page_ = builder_.page(PageKind::kMappingStacks);
    auto& record = *(&builder_.at<MappingStack>(uint32_t(builder_.header().first_line + page_ * kLinesPerPage)) + used_++);
    record.leaf = leaf;
    record.mapped_count = 1;
    record.mapped_bytes = mapped;
    record.unmapped_bytes = unmapped;
    record.resident_bytes = resident;
    record.baseline_resident_bytes = baseline;
    record.first_tick = record.last_tick = 16;
    return record;
  }
  static void set(RssLedger& ledger, uint32_t seconds, uint64_t rss, uint64_t mappings) {
    ledger = {};
    ledger.sequence = 2;
    ledger.tick = seconds * kTicksPerSecond;
    ledger.rss = rss;
    ledger.mappings = mappings;
    ledger.residual = int64_t(rss - mappings);
  }
  std::string text() {
    std::ostringstream out;
    output::write_text(out, report_of(builder_), {.top = 10});
    return out.str();
  }

  RegionBuilder builder_;
  uint64_t page_ = 0;
  uint32_t used_ = 0;
};

TEST_F(AnalyzerMappings, OnePathIsOneSiteAndTheLargestComesFirst) {
  add(builder_.path({0x100, 0x200}), 3, 10, 4);
  add(builder_.group({0x300}), 7, 20);
  add(builder_.path({0x100, 0x200}), 5, 10);
  add(kCutNode, 1, 1);
  output::Report report = report_of(builder_);
  const std::vector<MappingSite>& sites = report.profile->mappings;
  ASSERT_EQ(3u, sites.size());
  EXPECT_EQ(8u, sites[0].resident_bytes);
  EXPECT_EQ(16u, sites[0].live_bytes());
  EXPECT_EQ(2u, sites[0].calls);
  EXPECT_EQ(7u, sites[1].resident_bytes);
  EXPECT_TRUE(sites[2].overflow);
}

TEST_F(AnalyzerMappings, WhatIsTornOrForgedWrapsNothing) {
  add(builder_.path({0x100}), UINT64_MAX, 10, 11);
  add(builder_.path({0x100}), UINT64_MAX, UINT64_MAX, 0, 1);
  add(kMaxLineId, 5, 5);
  output::Report report = report_of(builder_);
  const std::vector<MappingSite>& sites = report.profile->mappings;
  ASSERT_EQ(2u, sites.size());
  EXPECT_EQ(UINT64_MAX, sites[0].resident_bytes);
  EXPECT_EQ(UINT64_MAX - 10, sites[0].live_bytes());
  EXPECT_TRUE(sites[1].damaged);
  set(builder_.header().rss_ledger, 60, UINT64_MAX, 0);
  set(builder_.header().baseline_ledger, 2, 0, 0);
  builder_.header().rss_ledger.allocator_free = UINT64_MAX;
  EXPECT_NE(text().find("Mappings that the program made itself"), std::string::npos);
}

TEST_F(AnalyzerMappings, WhatOneStackGaveUpAnotherOneTookOver) {
  add(builder_.path({0x100}), 0, 100 * kMiB, 100 * kMiB, 100 * kMiB);
  add(builder_.path({0x200}), 105 * kMiB, 105 * kMiB);
  auto point = builder_.page(PageKind::kPoints);
  auto& sample = builder_.at<ProcessPoint>(uint32_t(builder_.header().first_line + point * kLinesPerPage));
  sample.samples = 1;
  for (GaugeRange& gauge : sample.gauges) gauge = {kUnknown, kUnknown, kUnknown};
  set(builder_.header().baseline_ledger, 2, 200 * kMiB, 150 * kMiB);
  set(builder_.header().rss_ledger, 60, 205 * kMiB, 155 * kMiB);
  std::string report = text();
  EXPECT_NE(report.find("5.0 MiB into mappings, 5.0 MiB of it by the program's own calls of mmap"), std::string::npos) << report;
  EXPECT_NE(report.find("1 of 2 call stacks; resident as of 1 min"), std::string::npos) << report;
  EXPECT_NE(report.find("M1  105.0 MiB resident, 105.0 MiB mapped; 105.0 MiB more than at the baseline"), std::string::npos) << report;
}

TEST_F(AnalyzerMappings, WhatCameAfterTheLedgerIsShownByItsSize) {
  set(builder_.header().rss_ledger, 60, 200 * kMiB, 150 * kMiB);
  add(builder_.path({0x100}), 0, 50 * kMiB).last_tick = 100 * kTicksPerSecond;
  add(builder_.path({0x200}), 0, 70 * kMiB);   // before it, and not touched
  std::string report = text();
  EXPECT_NE(report.find("M1  50.0 MiB mapped, after RSS was looked at"), std::string::npos) << report;
  EXPECT_EQ(report.find("M2  "), std::string::npos) << report;
}

}  // namespace
}  // namespace tidemark::test
