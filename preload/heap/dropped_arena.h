// Blocks that jemalloc drops all at once, with the arena in which they are: mallctl's arena.<i>.reset and arena.<i>.destroy.
#pragma once
#include <cstddef>

namespace tidemark::heap {

// Makes the call, which drops arena `index` and returns 0 if it did; then its blocks count as freed. As jemalloc demands, nobody uses the
// arena meanwhile.
int drop_arena(size_t index, int (*call)(void*), void* argument);

}  // namespace tidemark::heap
