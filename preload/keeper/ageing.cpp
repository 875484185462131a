#include "preload/keeper/ageing.h"

#include <algorithm>
#include <cstring>

#include "preload/base/memory.h"
#include "preload/base/store.h"
#include "preload/heap/counters.h"
#include "preload/heap/page_map.h"
#include "preload/keeper/budget.h"
#include "preload/keeper/session.h"
#include "preload/platform/procfs.h"

namespace tidemark::keeper {
using namespace format;
namespace {

constexpr uint32_t kOldTicks = 10 * kTicksPerSecond;   // live blocks of that age, or expired ones, earn their stack a Detail
constexpr uint32_t kWrapTicks = 3u << 24;              // an age in 26 bits must not wrap: older blocks stay at this age (36 days)

struct Tally {
  uint32_t cohort[kCohorts];
  uint32_t expired_count;
  uint64_t expired_bytes;
};
struct Scratch {
  uint32_t* oldest;    // by line of the region: age + 1 of the oldest live block seen by this walk
  Tally* tallies;      // by Detail's place in the region: what this walk has counted
  uint8_t* detailed;   // a bit for each line of the region: a StackRecord that had a Detail as the walk began
  uint64_t lines, bytes;   // all of it
};
constexpr uint32_t kLinesPerDetail = sizeof(Detail) / kLineBytes;
constinit Scratch scratch{};
constinit Budget budget(400);
constinit std::atomic<uint64_t> expired{0};

template <class Visit>
void for_each_page(PageKind kind, Visit visit) {
  const Header& h = base::header();
  const auto* directory = reinterpret_cast<const uint8_t*>(base::store.start + h.directory_offset);
  uint64_t pages = __atomic_load_n(&h.used_pages, __ATOMIC_ACQUIRE);
  for (uint64_t p = 0; p < pages; p++)
    if (__atomic_load_n(&directory[p], __ATOMIC_ACQUIRE) == uint8_t(kind)) visit(base::store.start + p * kPageBytes, uint32_t(p));
}

template <class Visit>
void for_each_detail(Visit visit) {
  for_each_page(PageKind::kDetails, [&](char* page, uint32_t index) {
    auto* details = reinterpret_cast<Detail*>(page);
    constexpr uint32_t kPerPage = kPageBytes / sizeof(Detail);
    for (uint32_t i = 0; i < kPerPage; i++)
      if (__atomic_load_n(&details[i].stack, __ATOMIC_ACQUIRE)) visit(details[i], index * kPerPage + i);
  });
}

bool make_scratch() {
  uint64_t lines = base::store.bytes / kLineBytes;
  if (scratch.oldest && scratch.lines == lines) return true;
  const uint64_t oldest = lines * sizeof(uint32_t), tallies = lines / kLinesPerDetail * sizeof(Tally), all = oldest + tallies + lines / 8;
  auto* memory = static_cast<char*>(base::map_private(all));
  scratch = {};
  if (!memory) return false;   // asked again at the next walk
  scratch.oldest = reinterpret_cast<uint32_t*>(memory);
  scratch.tallies = reinterpret_cast<Tally*>(memory + oldest);
  scratch.detailed = reinterpret_cast<uint8_t*>(memory + oldest + tallies);
  scratch.lines = lines, scratch.bytes = all;
  return true;
}

uint32_t cohort_width(uint32_t tick) {
  uint32_t width = kTicksPerSecond;
  while (tick / width >= kCohorts) width *= 2;
  return width;
}

// The stack an id of a record names in this region, by scratch index; UINT32_MAX: an inherited one, or torn. lines: of the pages in use, which can be read.
uint32_t index_of(uint32_t stack, uint64_t lines) {
  uint32_t index = stack - base::store.first_line;
  return stack >= base::store.first_line && index < lines ? index : UINT32_MAX;
}
// Lines that are in use by now, as far as there is scratch memory for them.
uint64_t lines_in_use() { return std::min(__atomic_load_n(&base::header().used_pages, __ATOMIC_ACQUIRE) * kLinesPerPage, scratch.lines); }

// The birth of a block that would soon look young again is moved, once and again, so that it stays just old.
void hold_back_wrap(std::atomic<heap::Record>& at, heap::Record r, uint32_t now) {
  heap::Record held = (r & ~(uint64_t{heap::kTickMask} << 24)) | uint64_t((now - kWrapTicks) & heap::kTickMask) << 24;
  at.compare_exchange_strong(r, held, std::memory_order_relaxed);
}

uint32_t expiry_ticks() {
  uint64_t ticks = options.cache_duration * kTicksPerSecond / 1000;
  return ticks && ticks < kWrapTicks ? uint32_t(ticks) : kWrapTicks;   // 0: never
}

// What a walk only reads first is a page of zeros, and then a page of its own: to change one for the other interrupts each processor that runs a thread of
// the program.
void touch_scratch() { base::populate(scratch.oldest, lines_in_use() * sizeof(uint32_t)); }

// Counters' lines are the threads' that write to them, who wait where another processor has read one meanwhile: of stacks that have no Detail, and are
// most, going through the blocks reads none.
void learn_details(uint64_t lines) {
  memset(scratch.detailed, 0, lines / 8);   // there may be another store
  for_each_detail([&](Detail& d, uint32_t) {
    uint32_t index = index_of(d.stack, lines);
    if (index != UINT32_MAX) scratch.detailed[index / 8] |= uint8_t(1 << index % 8);
  });
}
bool has_detail(uint32_t index) { return scratch.detailed[index / 8] >> index % 8 & 1; }

void walk_blocks(uint32_t now, uint32_t width) {
  uint64_t old_bytes = 0, lines = lines_in_use();
  uint32_t old = expiry_ticks();
  heap::for_each_block([&](std::atomic<heap::Record>& at, heap::Record r, uint64_t bytes) {
    uint32_t index = index_of(heap::stack_of_record(r), lines);
    if (index == UINT32_MAX) index = index_of(heap::stack_of_record(r), lines = lines_in_use());
    if (index == UINT32_MAX) return;
    uint32_t age = (now - heap::tick_of_record(r)) & heap::kTickMask;
    if (age > heap::kTickMask - 16) age = 0;   // born after `now` was read
    if (age > kWrapTicks) hold_back_wrap(at, r, now);
    if (age >= old) old_bytes += bytes;
    if (age + 1 > scratch.oldest[index]) scratch.oldest[index] = age + 1;
    if (!has_detail(index)) return;
    uint32_t detail = base::line<StackRecord>(base::store.first_line + index)->detail;
    if (index_of(detail, lines) == UINT32_MAX) return;
    uint32_t epoch = (now > age ? now - age : 0) / width;
    Tally& tally = scratch.tallies[(detail - base::store.first_line) / kLinesPerDetail];
    tally.cohort[epoch < kCohorts ? epoch : kCohorts - 1]++;
    if (age < old) return;
    tally.expired_count++;
    tally.expired_bytes += bytes;
  });
  expired.store(old_bytes, std::memory_order_relaxed);
  base::header().expiry_ms = options.cache_duration;
}

bool changed(const Detail& d, const Tally& now, uint32_t width) {
  return d.cohort_ticks != width || d.expired_bytes != now.expired_bytes || d.expired_count != now.expired_count ||
         memcmp(d.cohort, now.cohort, sizeof(d.cohort)) != 0;
}

// Writes what has changed only: every page that is touched goes to the disk again, twice a minute.
void publish_cohorts(uint32_t now, uint32_t width) {
  for_each_detail([&](Detail& d, uint32_t index) {
    Tally& counted = scratch.tallies[index];
    // One that was given while the walk was under way has counted a part of its blocks.
    if (d.granted_tick < now && changed(d, counted, width)) {
      __atomic_add_fetch(&d.cohort_sequence, 1, __ATOMIC_ACQ_REL);
      memcpy(d.cohort, counted.cohort, sizeof(d.cohort));
      d.expired_count = counted.expired_count;
      d.expired_bytes = counted.expired_bytes;
      d.cohort_ticks = width;
      __atomic_add_fetch(&d.cohort_sequence, 1, __ATOMIC_ACQ_REL);
    }
    memset(&counted, 0, sizeof(counted));
  });
}

void publish_ages(uint32_t now) {
  const uint32_t expired = expiry_ticks();
  for_each_page(PageKind::kStacks, [&](char* start, uint32_t page) {
    if (uint64_t{page + 1} * kLinesPerPage > scratch.lines) return;
    auto& stacks = *reinterpret_cast<StackPage*>(start);
    for (uint32_t i = 0; i < kStacksPerPage; i++) {
      const uint32_t index = page * kLinesPerPage + i, age = scratch.oldest[index];
      if (age) scratch.oldest[index] = 0;
      const uint32_t birth = age ? now - (age - 1 < now ? age - 1 : now) + 1 : 0;
      if (stacks.oldest[i] != birth) __atomic_store_n(&stacks.oldest[i], birth, __ATOMIC_RELEASE);
      if (age <= std::min(expired, kOldTicks) || has_detail(index)) continue;
      heap::grant_detail(&stacks.stacks[i], base::store.first_line + index, age > expired ? heap::Reason::kExpired : heap::Reason::kOldBlocks);
    }
  });
  base::header().coverage[kLastWalkTick] = now;
}

// The points of what was, up to `end`: where nothing was written, nothing had changed.
void fill_points(Detail& d, uint32_t end, uint64_t live) {
  uint64_t last = d.series_used ? d.series[d.series_used - 1].last_live : live;
  for (; d.series_used < end; d.series_used++) d.series[d.series_used] = {last, last};
}

void halve_resolution(Detail& d) {
  for (uint32_t i = 0; i < kSeriesPoints / 2; i++) {
    const SeriesPoint &a = d.series[2 * i], &b = d.series[2 * i + 1];
    d.series[i] = {a.min_live < b.min_live ? a.min_live : b.min_live, b.last_live};
  }
  memset(d.series + kSeriesPoints / 2, 0, sizeof(SeriesPoint) * kSeriesPoints / 2);
  d.series_ticks *= 2;
  d.series_used = kSeriesPoints / 2;
}

void add_point(Detail& d, uint64_t live, uint32_t now) {
  if (d.series_used && d.series[d.series_used - 1].last_live == live) return;
  uint32_t since = now - d.granted_tick;
  while (since / d.series_ticks >= kSeriesPoints) {
    fill_points(d, kSeriesPoints, live);
    halve_resolution(d);
  }
  uint32_t at = since / d.series_ticks;
  fill_points(d, at + 1, live);
  SeriesPoint& p = d.series[at];
  if (live < p.min_live) p.min_live = live;
  p.last_live = live;
}

void raise_shared_peaks() {
  for_each_page(PageKind::kShared, [&](char* page, uint32_t) {
    auto* counters = reinterpret_cast<SharedCounters*>(page);
    for (uint32_t i = 0; i < kLinesPerPage; i += kStripes)
      if (uint32_t stack = __atomic_load_n(&counters[i].stack, __ATOMIC_ACQUIRE)) heap::raise_peak(base::line<StackRecord>(stack));
  });
}

void add_points(uint32_t now) {
  for_each_detail([&](Detail& d, uint32_t) {
    int64_t live = heap::live_of(base::line<StackRecord>(d.stack)).bytes;
    add_point(d, live > 0 ? uint64_t(live) : 0, now);
  });
}
}  // namespace

uint64_t expired_bytes() { return expired.load(std::memory_order_relaxed); }

void forget_ageing() {
  if (scratch.oldest) base::unmap(scratch.oldest, scratch.bytes);   // only the keeper reads it, and that has stayed with the parent
  scratch = {};
  budget.forget();
  expired.store(0, std::memory_order_relaxed);
}

void age_blocks() {
  uint32_t now = base::header().tick;
  raise_shared_peaks();
  add_points(now);
  auto live = uint64_t(std::max<int64_t>(heap::total_live(), 0));
  int64_t begin = platform::monotonic_ns();
  if (!budget.allows(begin, live) || !make_scratch()) return;
  budget.spend(begin, live, [now] {
    uint32_t width = cohort_width(now);
    touch_scratch();
    learn_details(lines_in_use());
    walk_blocks(now, width);
    publish_cohorts(now, width);
    publish_ages(now);
    return true;
  });
}

}  // namespace tidemark::keeper
