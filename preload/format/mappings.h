// Mappings that the program made itself, by mmap, mremap, brk and sbrk, summed up for each call stack that made them. What libc and the loader map for
// themselves (libraries, stacks of threads) does not come by these functions, and is not here.
#pragma once
#include <cstdint>

namespace tidemark::format {

// Written under a lock, read without: bytes and counts may differ by one call. Commit word: leaf.
struct alignas(64) MappingStack {
  uint64_t mapped_count;              // calls that mapped something
  uint64_t mapped_bytes;              // of address space, in whole pages; a mapping that replaces another one, or moves it, counts as new
  uint64_t unmapped_bytes;
  uint64_t peak_bytes;                // of mapped - unmapped
  uint64_t resident_bytes;            // of what is mapped, when RssLedger was measured
  uint64_t baseline_resident_bytes;   // the same, for the ledger at the baseline
  uint32_t leaf;                      // Node, or kCutNode: all calls that found no room for a stack of their own
  uint32_t first_tick, last_tick;     // of a call
  uint32_t reserved;
};
static_assert(sizeof(MappingStack) == 64);

}  // namespace tidemark::format
