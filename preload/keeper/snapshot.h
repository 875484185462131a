// A consistent copy of the region, beside it.
#pragma once
#include <cstddef>

namespace tidemark::keeper {

// All of the program's threads that call malloc wait while the used pages are copied: about a millisecond for each 4 MB. 0: `path` becomes the
// copy's; else an errno, and `path` says what failed. From an errand.
int snapshot(char* path, size_t bytes);

}  // namespace tidemark::keeper
