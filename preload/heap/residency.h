// How much of the heap is really in memory, and of what kind.
#pragma once
#include <cstdint>

namespace tidemark::heap {

// Bytes. resident: of all of jemalloc's mappings; live and rounding: the parts of tracked blocks that are resident; untouched: requested bytes of
// live blocks on pages that are not. Pages of blocks under 16 KiB count with the blocks that start there.
struct Residency {
  uint64_t resident, live, rounding, untouched;
};

// Asks the kernel page by page (platform/pagemap.h). Racing with the program: blocks that come or go meanwhile may be counted or not. A thread of ours.
Residency measure_heap();

// Resident bytes of [start, end).
uint64_t resident_in(uintptr_t start, uintptr_t end);

}  // namespace tidemark::heap
