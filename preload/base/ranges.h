// Which mappings are whose: those of our jemalloc, and our own. Kept by whoever makes them, so that the ledger can tell them from the
// program's: the kernel joins neighbours.
#pragma once
#include <cstddef>
#include <cstdint>

namespace tidemark::base {

enum class Owner : uint32_t { kNobody = 0, kAllocator = 1, kTidemark = 2 };

// Any context, signal handlers too: no allocation, a lock that is only tried. Neighbours of one owner become one range. What finds no room
// is forgotten, and counted: what of it is resident the ledger then cannot explain.
void note_mapping(Owner owner, const void* start, size_t bytes);
void note_unmapping(const void* start, size_t bytes);
void reset_ranges_lock();   // child of fork
uint64_t forgotten_ranges();

Owner owner_of(const void* a);    // kNobody also where the lock cannot be had
uint64_t bytes_of(Owner owner);   // 0 where the lock cannot be had

struct Range {
  uintptr_t start, end;
  Owner owner;
};
inline constexpr uint32_t kMaxRanges = 1024;
// Copies them, in no order; returns how many there are. `out` has room for kMaxRanges.
uint32_t copy_ranges(Range* out);

}  // namespace tidemark::base
