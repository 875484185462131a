#include "preload/base/ranges.h"

#include "preload/base/spin_lock.h"

namespace tidemark::base {
namespace {

constinit Range ranges[kMaxRanges]{};
constinit uint32_t used = 0;
constinit SpinLock lock;

void drop(uint32_t i) { ranges[i] = ranges[--used]; }

// The range that ends or begins where the new one does takes it in; a second one that it then touches is joined.
bool join(Owner owner, uintptr_t start, uintptr_t end) {
  for (uint32_t i = 0; i < used; i++) {
    Range& r = ranges[i];
    if (r.owner != owner || (r.end != start && r.start != end)) continue;
    if (r.end == start) r.end = end;
    else r.start = start;
    for (uint32_t k = 0; k < used; k++) {
      if (k == i || ranges[k].owner != owner || (ranges[k].end != r.start && ranges[k].start != r.end)) continue;
      if (ranges[k].start < r.start) r.start = ranges[k].start;
      if (ranges[k].end > r.end) r.end = ranges[k].end;
      drop(k);
      break;
    }
    return true;
  }
  return false;
}

void add(Owner owner, uintptr_t start, uintptr_t end) {
  if (start < end && !join(owner, start, end) && used < kMaxRanges) ranges[used++] = {start, end, owner};
}
// A signal handler may have interrupted whoever holds it, in this very thread.
bool lock_unless_stuck() {
  for (uint32_t i = 0; i < 10'000; i++) {
    if (lock.try_lock()) return true;
    __builtin_ia32_pause();
  }
  return false;
}

}  // namespace

void note_mapping(Owner owner, const void* start, size_t bytes) {
  auto from = reinterpret_cast<uintptr_t>(start);
  if (!lock_unless_stuck()) return;
  add(owner, from, from + bytes);
  lock.unlock();
}

void note_unmapping(const void* start, size_t bytes) {
  auto from = reinterpret_cast<uintptr_t>(start), to = from + bytes;
  SpinGuard guard(lock);
  for (uint32_t i = 0; i < used;) {
    Range r = ranges[i];
    if (r.end <= from || r.start >= to) {
      i++;
      continue;
    }
    drop(i);
    // What is left of it touches no other range, or it would have been joined.
    if (r.start < from && used < kMaxRanges) ranges[used++] = {r.start, from, r.owner};
    if (r.end > to && used < kMaxRanges) ranges[used++] = {to, r.end, r.owner};
    i = 0;
  }
}

void reset_ranges_lock() { lock.reset(); }

uint32_t copy_ranges(Range* out) {
  SpinGuard guard(lock);
  for (uint32_t i = 0; i < used; i++) out[i] = ranges[i];
  return used;
}

}  // namespace tidemark::base

// For jemalloc_glue.c.
extern "C" __attribute__((visibility("hidden"))) void tidemark_note_mapping(const void* start, size_t bytes) {
  tidemark::base::note_mapping(tidemark::base::Owner::kAllocator, start, bytes);
}
extern "C" __attribute__((visibility("hidden"))) void tidemark_note_unmapping(const void* start, size_t bytes) {
  tidemark::base::note_unmapping(start, bytes);
}
