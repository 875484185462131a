// The process's mappings and what of them is in memory (/proc/thread-self/smaps, proc(5)). Through a file that is kept open (kept_file.h).
#pragma once
#include <cstdint>

namespace tidemark::platform {

struct Mapping {
  uintptr_t start, end;
  uint64_t rss, pss;   // whole KiB
  const char* path;   // "", a file, or a name in brackets such as [stack]; valid during the call
};
// Calls visit for each; false: they cannot be read.
bool for_each_mapping(void (*visit)(void* argument, const Mapping& mapping), void* argument);

}  // namespace tidemark::platform
