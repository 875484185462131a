#include "preload/heap/mapped_table.h"

#include <algorithm>
#include <cstring>

namespace tidemark::heap {
namespace {

constinit MappedRange ranges[kMostMapped]{};
constinit uint32_t used = 0;

// The first one that begins below `end`; those before it lie above.
uint32_t first_below(uintptr_t end) {
  return uint32_t(std::partition_point(ranges, ranges + used, [end](const MappedRange& r) { return r.start >= end; }) - ranges);
}

bool insert(uint32_t at, const MappedRange& range) {
  if (used == kMostMapped) return false;
  memmove(ranges + at + 1, ranges + at, (used - at) * sizeof(MappedRange));
  ranges[at] = range;
  used++;
  return true;
}

void erase(uint32_t from, uint32_t to) {
  memmove(ranges + from, ranges + to, (used - to) * sizeof(MappedRange));
  used -= to - from;
}

MappedRange clipped(const MappedRange& r, uintptr_t start, uintptr_t end) {
  return {std::max(r.start, start), std::min(r.end, end), r.owner};
}
}  // namespace

bool put_mapped(const MappedRange& range) {
  uint32_t at = first_below(range.start);
  MappedRange* above = at > 0 && ranges[at - 1].start == range.end && ranges[at - 1].owner == range.owner ? &ranges[at - 1] : nullptr;
  MappedRange* below = at < used && ranges[at].end == range.start && ranges[at].owner == range.owner ? &ranges[at] : nullptr;
  if (above && below) {
    above->start = below->start;
    erase(at, at + 1);
  } else if (above) {
    above->start = range.start;
  } else if (below) {
    below->end = range.end;
  } else {
    return insert(at, range);
  }
  return true;
}

bool cut_mapped(uintptr_t start, uintptr_t end, void (*cut)(void*, const MappedRange&), void* argument) {
  uint32_t first = first_below(end), last = first;
  for (; last < used && ranges[last].end > start; last++) cut(argument, clipped(ranges[last], start, end));
  if (first == last) return true;
  MappedRange highest = ranges[first], lowest = ranges[last - 1];
  erase(first, last);
  bool room = true;   // two of them may stay of one
  auto keep = [&](const MappedRange& rest) {
    if (insert(first, rest)) return;
    cut(argument, rest);
    room = false;
  };
  if (lowest.start < start) keep({lowest.start, start, lowest.owner});
  if (highest.end > end) keep({end, highest.end, highest.owner});
  return room;
}

uint32_t copy_mapped(uintptr_t start, uintptr_t end, MappedRange* out, uint32_t most) {
  uint32_t n = 0;
  for (uint32_t i = first_below(end); i < used && ranges[i].end > start && n < most; i++) out[n++] = clipped(ranges[i], start, end);
  return n;
}

void clear_mapped() { used = 0; }

}  // namespace tidemark::heap
