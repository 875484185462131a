// Mappings that the process made itself (mmap, mremap, brk), by call stack.
#pragma once
#include <cstdint>
#include <vector>

#include "analyzer/model/call_stack.h"
#include "analyzer/region/region.h"

namespace tidemark::model {

struct MappingSite : CallStack {
  uint64_t calls = 0;
  uint64_t mapped_bytes = 0, unmapped_bytes = 0;  // address space; unmapped is never above mapped
  uint64_t peak_bytes = 0;
  uint64_t resident_bytes = 0, baseline_resident_bytes = 0;  // when the ledger was measured, and at the baseline
  uint32_t first_tick = 0, last_tick = 0;                    // of a call

  uint64_t live_bytes() const { return mapped_bytes - unmapped_bytes; }
  uint64_t growth() const { return resident_bytes > baseline_resident_bytes ? resident_bytes - baseline_resident_bytes : 0; }
};

// By resident bytes, then address space.
std::vector<MappingSite> read_mapping_sites(const region::Region& region, StackPaths& paths);

}  // namespace tidemark::model
