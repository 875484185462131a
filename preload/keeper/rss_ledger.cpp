#include "preload/keeper/rss_ledger.h"


#include <algorithm>
#include <cstring>
#include <string_view>

#include "preload/base/ranges.h"
#include "preload/base/store.h"
#include "preload/heap/allocator.h"
#include "preload/heap/mappings.h"
#include "preload/heap/residency.h"
#include "preload/heap/threads.h"
#include "preload/heap/tracker.h"
#include "preload/keeper/budget.h"
#include "preload/platform/mappings.h"
#include "preload/platform/pagemap.h"
#include "preload/platform/procfs.h"
#include "preload/platform/usage.h"

extern "C" char __bss_start[], _end[];   // of this library (ld)

namespace tidemark::keeper {
using namespace format;
namespace {

constexpr int64_t kInterval = 10'000'000'000;
constexpr uint64_t kFar = 16;   // a sixteenth of RSS
constinit Budget budget(400);
constinit int64_t next = 0;   // CLOCK_MONOTONIC
constinit uint64_t pss = 0;     // as of the latest one
constinit heap::StackBounds own_stacks[2]{};

struct Sums {
  uint64_t pss, rss;
  uint64_t region, library, main_stack;
  uint64_t files;       // of files, and what the loader maps behind them (.bss)
  uint64_t own;         // anonymous, by the program's own calls
  uint64_t rest;        // all that is none of the first three
  uintptr_t file_end;   // of the mapping before this one, if it was of a file
};

bool is_our_bss(const platform::Mapping& m) {
  return m.start >= (reinterpret_cast<uintptr_t>(__bss_start) & ~uintptr_t{kPageBytes - 1}) && m.start < reinterpret_cast<uintptr_t>(_end);
}

bool is_anonymous(const platform::Mapping& m) {
  std::string_view path(m.path);
  return path.empty() || path == "[heap]" || path.starts_with("[anon");
}

base::Range ranges[base::kMaxRanges];   // jemalloc's and ours, as of this ledger; one thread of ours
uint32_t range_count = 0;

uint64_t known_in(uintptr_t start, uintptr_t end) {
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < range_count; i++) {
    uintptr_t from = std::max(start, ranges[i].start), to = std::min(end, ranges[i].end);
    if (from < to) bytes += heap::resident_in(from, to);
  }
  return bytes;
}

uint64_t less(uint64_t from, uint64_t what) { return from > what ? from - what : 0; }

void sort_in_others(Sums& s, const platform::Mapping& m) {
  uint64_t own = heap::add_resident_mapping(m.start, m.end, m.rss);
  bool anonymous = is_anonymous(m), bss = anonymous && m.start == s.file_end;
  s.rest += m.rss;
  s.file_end = anonymous ? 0 : m.end;
  if (!anonymous) s.files += m.rss;
  else s.own += own;
  if (bss) s.files += less(m.rss, own + known_in(m.start, m.end));   // the kernel may have joined it with what is no .bss
}

void sort_in(void* sums, const platform::Mapping& m) {
  auto& s = *static_cast<Sums*>(sums);
  s.pss += m.pss;
  s.rss += m.rss;
  auto region = reinterpret_cast<uintptr_t>(base::store.start);
  if (m.start >= region && m.end <= region + base::store.bytes) s.region += m.rss;
  else if (std::string_view(m.path).ends_with("/libtidemark.so") || is_our_bss(m)) s.library += m.rss;
  else if (strcmp(m.path, "[stack]") == 0) s.main_stack += m.rss;
  else sort_in_others(s, m);
}

// What lies outside of the region: its pages are the file's, of which the kernel would tell whether they are in the page cache.
uint64_t own_tables() {
  auto region = reinterpret_cast<uintptr_t>(base::store.start), end = region + base::store.bytes;
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < range_count; i++) {
    const base::Range& r = ranges[i];
    if (r.owner == base::Owner::kTidemark)
      bytes += heap::resident_in(r.start, std::min(r.end, region)) + heap::resident_in(std::max(r.start, end), r.end);
  }
  return bytes;
}

uint64_t stacks_of_threads(Sums& sums) {
  static heap::StackBounds bounds[heap::kMostStacks];   // one thread of ours
  uint64_t bytes = 0;
  for (uint32_t i = 0, n = heap::copy_stack_bounds(bounds); i < n; i++) {
    bytes += heap::resident_in(bounds[i].low, bounds[i].top);
    sums.own -= std::min(sums.own, heap::exclude_from_mappings(bounds[i].low, bounds[i].top));   // mapped by the program for its thread
  }
  return bytes;
}

void publish(RssLedger& kept, RssLedger now) {
  __atomic_add_fetch(&kept.sequence, 1, __ATOMIC_ACQ_REL);
  now.sequence = kept.sequence;
  kept = now;
  __atomic_add_fetch(&kept.sequence, 1, __ATOMIC_ACQ_REL);
}

// A fork child does not know what its parent mapped: there all that is nothing else counts.
uint64_t mappings_of(const Sums& sums, uint64_t others) {
  return base::header().origin == uint32_t(Origin::kForked) ? less(sums.rest, others) : sums.files + sums.own;
}

bool measure(const platform::Usage& usage) {
  Sums sums{};
  uint64_t entry;
  range_count = base::copy_ranges(ranges);
  bool readable = platform::read_pagemap(reinterpret_cast<uintptr_t>(&entry), 1, &entry);
  if (usage.rss == platform::kNotKnown || !readable || !platform::for_each_mapping(sort_in, &sums)) return base::count(kLedgersUnread), false;
  heap::Residency heap = heap::measure_heap();
  pss = sums.pss;
  uint64_t tables = own_tables();
  for (const heap::StackBounds& own : own_stacks) tables += own.top ? heap::resident_in(own.low, own.top) : 0;
  uint64_t stacks = stacks_of_threads(sums);

  base::header().coverage[kRangesForgotten] = base::forgotten_ranges();

  RssLedger now{};
  now.tick = base::header().tick;
  now.rss = sums.rss;   // of the same moment as its parts: who waits for a processor in between finds another
  now.live = heap.live;
  now.live_untouched = heap.untouched;
  now.rounding = heap.rounding;
  now.allocator = less(heap.resident, heap.live + heap.rounding);
  HeapFigures figures{};
  heap::read_allocator(figures);
  now.allocator_free = std::min(now.allocator, figures.dirty + figures.muzzy);
  now.allocator_fragmentation = std::min(now.allocator - now.allocator_free, less(figures.active, figures.allocated));
  now.thread_stacks = sums.main_stack + stacks;
  now.tidemark = sums.region + sums.library + tables;
  now.mappings = mappings_of(sums, heap.resident + tables + stacks);
  uint64_t known = now.live + now.rounding + now.allocator + now.thread_stacks + now.tidemark + now.mappings;
  now.residual = int64_t(now.rss) - int64_t(known);

  publish(base::header().rss_ledger, now);
  bool first = base::header().baseline_tick && !base::header().baseline_ledger.sequence;
  if (first) publish(base::header().baseline_ledger, now);
  heap::publish_resident_mappings(first);
  return true;
}
bool measure_at(int64_t now) {
  platform::Usage usage;
  platform::read_memory(usage);
  return budget.spend(now, usage.rss, [&] { return measure(usage); });
}
}  // namespace

bool measure_ledger() { return measure_at(platform::monotonic_ns()); }
uint64_t pss_of_ledger() { return pss; }
int64_t cost_of_ledger() { return budget.cost(); }

// Whether RSS is far from that of the latest ledger.
static bool is_far(uint64_t rss) {
  uint64_t last = base::header().rss_ledger.rss;
  return rss != platform::kNotKnown && (rss > last ? rss - last : last - rss) > last / kFar;
}

bool measure_ledger_now_and_then(int64_t now, uint64_t rss) {
  if (!budget.allows(now, rss) || (now < next && !is_far(rss))) return false;
  next = now + kInterval;
  return measure_at(now);
}

void note_own_stack(uint32_t slot) {
  address low, top;
  if (heap::own_thread_stack(low, top)) own_stacks[slot] = {low, top};
}

void forget_ledger() {
  budget.forget();
  next = 0;
  own_stacks[0] = own_stacks[1] = {};
}

}  // namespace tidemark::keeper
