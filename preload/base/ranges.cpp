#include "preload/base/ranges.h"

#include <sched.h>

#include <atomic>

#include "preload/base/spin_lock.h"

namespace tidemark::base {
namespace {

constinit Range ranges[kMaxRanges]{};
constinit uint32_t used = 0;
constinit SpinLock lock;
constinit std::atomic<uint64_t> forgotten{0};

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

void put(uintptr_t start, uintptr_t end, Owner owner) {
  if (used < kMaxRanges) ranges[used++] = {start, end, owner};
  else forgotten.fetch_add(1, std::memory_order_relaxed);
}

// Not for ever: a signal handler may have interrupted whoever holds it, in this very thread; and in a child of _Fork or clone nobody does. But long
// enough for one that the kernel has put off its processor, which it mostly gets back when others yield theirs.
bool lock_unless_stuck() {
  constexpr uint32_t kPauses = 100, kYields = 1000;
  for (uint32_t i = 0; i < kPauses + kYields; i++) {
    if (lock.try_lock()) return true;
    if (i < kPauses) __builtin_ia32_pause();
    else sched_yield();
  }
  return false;
}
bool lock_to_note() {
  if (lock_unless_stuck()) return true;
  forgotten.fetch_add(1, std::memory_order_relaxed);
  return false;
}
}  // namespace

void note_mapping(Owner owner, const void* start, size_t bytes) {
  auto from = reinterpret_cast<uintptr_t>(start);
  if (!bytes || !lock_to_note()) return;
  if (!join(owner, from, from + bytes)) put(from, from + bytes, owner);
  lock.unlock();
}

void note_unmapping(const void* start, size_t bytes) {
  auto from = reinterpret_cast<uintptr_t>(start), to = from + bytes;
  if (!lock_to_note()) return;
  for (uint32_t i = used; i-- > 0;) {   // backwards: what is left of one is put behind, and needs no second look
    Range r = ranges[i];
    if (r.end <= from || r.start >= to) continue;
    drop(i);
    if (r.start < from) put(r.start, from, r.owner);
    if (r.end > to) put(to, r.end, r.owner);
  }
  lock.unlock();
}

void reset_ranges_lock() { lock.reset(); }
uint64_t forgotten_ranges() { return forgotten.load(std::memory_order_relaxed); }

Owner owner_of(const void* a) {
  auto at = reinterpret_cast<uintptr_t>(a);
  Owner owner = Owner::kNobody;
  if (!lock_unless_stuck()) return owner;
  for (uint32_t i = 0; i < used; i++)
    if (at >= ranges[i].start && at < ranges[i].end) owner = ranges[i].owner;
  lock.unlock();
  return owner;
}

uint64_t bytes_of(Owner owner) {
  uint64_t bytes = 0;
  if (!lock_unless_stuck()) return 0;
  for (uint32_t i = 0; i < used; i++)
    if (ranges[i].owner == owner) bytes += ranges[i].end - ranges[i].start;
  lock.unlock();
  return bytes;
}

uint32_t copy_ranges(Range* out) {
  if (!lock_unless_stuck()) return 0;
  uint32_t n = used;
  for (uint32_t i = 0; i < n; i++) out[i] = ranges[i];
  lock.unlock();
  return n;
}

}  // namespace tidemark::base

// For jemalloc_glue.c.
extern "C" __attribute__((visibility("hidden"))) void tidemark_note_mapping(const void* start, size_t bytes) {
  tidemark::base::note_mapping(tidemark::base::Owner::kAllocator, start, bytes);
}
extern "C" __attribute__((visibility("hidden"))) void tidemark_note_unmapping(const void* start, size_t bytes) {
  tidemark::base::note_unmapping(start, bytes);
}
