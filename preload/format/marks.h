// What the program itself told by tidemark_mark("…"): one record a name, with live bytes as of some of its marks. Part of the region (region.h).
#pragma once
#include <cstdint>

namespace tidemark::format {

struct MarkPoint {
  uint32_t number;   // of the mark, from 1
  uint32_t tick;
  uint64_t live;     // requested bytes of tracked blocks then
};

// Every stride-th mark has a point; when they run out, every other one goes and the stride doubles. `sequence` is odd meanwhile. Commit word: count.
inline constexpr uint32_t kMarkName = 64;
inline constexpr uint32_t kMarkPoints = 56;
inline constexpr uint32_t kMarkNames = 64;
struct MarkRecord {
  uint64_t count;
  uint32_t first_tick, last_tick;
  uint32_t stride;
  uint32_t used;      // points
  uint32_t sequence;
  uint32_t reserved;
  char name[kMarkName];   // zero-ended unless it is that long
  MarkPoint points[kMarkPoints];
  uint64_t reserved2[4];
};
static_assert(sizeof(MarkRecord) == 1024);

}  // namespace tidemark::format
