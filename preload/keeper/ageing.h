// The keeper's look at all live blocks: the age of each stack's oldest one, live blocks by birth epoch, series of live bytes, peaks.
#pragma once

namespace tidemark::keeper {

// Once a second. Walks the blocks when the last walk is long enough ago for its cost: at most about 1 % of one processor.
void age_blocks();

}  // namespace tidemark::keeper
