// A consistent copy of the region, beside it.
#pragma once
#include <cstddef>

namespace tidemark::keeper {

// All of the program's threads that call malloc wait while the used pages are copied: about a millisecond for each 4 MB. 0: `text` becomes
// the copy's name, beside the region; else an errno, and `text` says what failed. From an errand.
int snapshot(char* text, size_t bytes);

}  // namespace tidemark::keeper
