// The keeper's look at all live blocks: the age of each stack's oldest one, live blocks by birth epoch, series of live bytes, peaks.
#pragma once
#include <cstdint>

namespace tidemark::keeper {

// Once a second. Walks the blocks when the last walk is long enough ago for its cost: at most about a quarter of a percent of one processor.
void age_blocks();

// Requested bytes of blocks that were older than Options::cache_duration at the last walk.
uint64_t expired_bytes();

// In a child of fork: nothing of its parent's walks is known any more, nor of one that was under way.
void forget_ageing();

}  // namespace tidemark::keeper
