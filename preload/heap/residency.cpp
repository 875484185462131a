#include "preload/heap/residency.h"

#include <algorithm>

#include "preload/base/ranges.h"
#include "preload/format/region.h"
#include "preload/heap/page_map.h"
#include "preload/heap/size_classes.h"
#include "preload/platform/pagemap.h"

namespace tidemark::heap {
namespace {

constexpr uint64_t kPage = format::kPageBytes;
constexpr uint64_t kChunk = 1024;   // pages asked about at once

// Calls visit(page address, whether it is resident). What cannot be asked about is not resident.
template <class Visit>
void for_each_page(uintptr_t start, uintptr_t end, Visit visit) {
  uint64_t entries[kChunk];
  for (uintptr_t at = start & ~(kPage - 1); at < end; at += kChunk * kPage) {
    auto pages = uint32_t((std::min<uintptr_t>(end, at + kChunk * kPage) - at + kPage - 1) / kPage);
    bool known = platform::read_pagemap(at, pages, entries);
    for (uint32_t i = 0; i < pages; i++) visit(at + i * kPage, known && platform::is_present(entries[i]));
  }
}

// Walks the pages of one mapping; a large block goes on over the pages that follow its first one.
class Walk {
 public:
  explicit Walk(Residency& sum) : sum_(sum) {}

  void page(uintptr_t at, bool resident) {
    if (resident) sum_.resident += kPage;
    uint64_t entry = find_entry_quietly(at);
    if (size8_in(entry)) return small(entry, resident);
    if (entry) begin_large(entry);
    uint64_t live = std::min(live_left_, kPage), rounding = std::min(rounding_left_, kPage - live);
    live_left_ -= live;
    rounding_left_ -= rounding;
    count(live, rounding, resident);
  }

 private:
  void small(uint64_t entry, bool resident) {
    uint64_t size = size8_in(entry) * 8;
    auto* records = records_in(entry);
    for (uint32_t k = 0, n = records_per_page(size8_in(entry)); k < n; k++) {
      Record r = records[k].load(std::memory_order_relaxed);
      if (!stack_of_record(r)) continue;
      uint64_t rounding = rounding_of_record(r) & 0x1fff;
      count(size - std::min(size, rounding), rounding, resident);
    }
  }

  void begin_large(uint64_t entry) {
    auto* records = records_in(entry);
    if (!stack_of_record(records[0].load(std::memory_order_relaxed))) return;
    live_left_ = records[1].load(std::memory_order_relaxed);
    uint64_t usable = live_left_ ? usable_of(live_left_) : 0;
    rounding_left_ = usable > live_left_ ? usable - live_left_ : 0;
  }

  void count(uint64_t live, uint64_t rounding, bool resident) {
    if (resident) sum_.live += live, sum_.rounding += rounding;
    else sum_.untouched += live;
  }

  Residency& sum_;
  uint64_t live_left_ = 0, rounding_left_ = 0;
};
}  // namespace

Residency measure_heap() {
  static base::Range ranges[base::kMaxRanges];   // one thread of ours
  Residency sum{};
  uint32_t n = base::copy_ranges(ranges);
  std::sort(ranges, ranges + n, [](const base::Range& a, const base::Range& b) { return a.start < b.start; });   // a block may reach into the next one
  Walk walk(sum);
  for (uint32_t i = 0; i < n; i++)
    if (ranges[i].owner == base::Owner::kAllocator)
      for_each_page(ranges[i].start, ranges[i].end, [&](uintptr_t at, bool resident) { walk.page(at, resident); });
  return sum;
}

uint64_t resident_in(uintptr_t start, uintptr_t end) {
  uint64_t bytes = 0;
  for_each_page(start, end, [&](uintptr_t, bool resident) { bytes += resident ? kPage : 0; });
  return bytes;
}

}  // namespace tidemark::heap
