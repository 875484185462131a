// Which addresses the program has mapped itself, and who did it. One static table, highest addresses first: the kernel hands them out downwards, so
// that a new mapping mostly goes to the end. The caller holds a lock.
#pragma once
#include <cstdint>

namespace tidemark::heap {

struct MappedRange {
  uintptr_t start, end;
  uint32_t owner;   // any number
};
inline constexpr uint32_t kMostMapped = 16384;

// Puts it in; neighbours of one owner become one range. What it overlaps must have been cut. false: no room.
bool put_mapped(const MappedRange& range);

// Takes [start, end) out, and calls cut(argument, part) for each part of a range that lay there. false: the rest of a range should have stayed and found
// no room; it was passed to `cut`, too.
bool cut_mapped(uintptr_t start, uintptr_t end, void (*cut)(void* argument, const MappedRange& part), void* argument);

// Parts of ranges that lie in [start, end), highest first; returns how many, `most` at most.
uint32_t copy_mapped(uintptr_t start, uintptr_t end, MappedRange* out, uint32_t most);

void clear_mapped();

}  // namespace tidemark::heap
