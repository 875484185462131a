// Writes small sound regions for the fuzzer to begin with: region_seeds FOLDER
#include <string>

#include "tests/unit/support/region_builder.h"

using namespace tidemark::format;
using tidemark::test::RegionBuilder;

namespace {

constexpr uint64_t kSmall = 16 * kPageBytes;  // the reader does not mind, and the fuzzer is fast

void fill(RegionBuilder& builder) {
  builder.module({0x10000, 0x20000, 0x10000, "/no/such/lib.so", "12345678901234567890", 0});
  builder.module({0x10000, 0x20000, 0x10000, "/no/such/libtidemark.so", "", 2, 100, 100});
  uint32_t outer = builder.path({0x10100, 0x400, 0x500}, kCutNode);
  uint32_t handler = builder.lone(0x12000, kRuleSignal, outer);
  uint32_t leaf = builder.group({0x11000, 0x11100}, builder.lone(0x12100, kRuleGuess, handler), 2);
  uint32_t id = builder.stack(leaf, {.allocated_count = 10,
                                     .allocated_bytes = 1000,
                                     .freed_count = 5,
                                     .freed_bytes = 500,
                                     .first_tick = 1,
                                     .last_tick = 100,
                                     .oldest = 3});
  builder.shared(id);
  Detail& detail = builder.at<Detail>(builder.detail(id));
  detail.lifetime[9] = 3;
  detail.deaths_before = 1;
  detail.max_age_ticks = 50;
  detail.cohort_ticks = 16;
  detail.cohort[1] = 5;
  detail.series_ticks = 16;
  detail.series_used = 2;
  builder.stack(outer, {.allocated_count = 7, .allocated_bytes = 70, .kind = StackKind::kInherited});
  builder.stack(kRootNode, {.allocated_count = 2, .allocated_bytes = 20, .kind = StackKind::kOverflow});
  builder.thread(1);
  uint64_t page = builder.page(PageKind::kMappingStacks);
  auto& mapping = builder.at<MappingStack>(uint32_t(builder.header().first_line + page * kLinesPerPage));
  mapping = {.mapped_count = 1, .mapped_bytes = 8192, .resident_bytes = 4096, .leaf = leaf};
  builder.header().rss_ledger = {.sequence = 2, .tick = 16, .rss = 100};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  std::string folder = argv[1];
  RegionBuilder launched(kSmall), forked(kSmall, 4096), empty(kSmall);
  fill(launched);
  fill(forked);
  forked.header().origin = uint32_t(Origin::kForked);
  forked.header().ending = uint32_t(Ending::kSignaled);
  forked.header().signal = 11;
  launched.save(folder + "/launched.tide");
  forked.save(folder + "/forked.tide");
  empty.save(folder + "/empty.tide");
}
