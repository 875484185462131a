// What the kernel says of this process's memory, faults, CPU time, threads and descriptors (proc(5)). By files that are kept open (kept_file.h): one
// thread, with a descriptor table of its own. No allocation.
#pragma once
#include <cstdint>

namespace tidemark::platform {

inline constexpr uint64_t kNotKnown = UINT64_MAX;

struct Usage {
  uint64_t rss = kNotKnown, vms = kNotKnown, swap = kNotKnown;   // bytes
  uint64_t minor_faults = kNotKnown, major_faults = kNotKnown;
  uint64_t user_ms = kNotKnown, system_ms = kNotKnown;
  uint64_t threads = kNotKnown, descriptors = kNotKnown;
};
void read_usage(Usage& out);
void read_memory(Usage& out);   // rss and vms only

// What seccomp filters are on this thread; changes when one is added. 0: not known.
uint64_t seccomp_state();

// Bytes; reading it takes time in proportion to the pages that are mapped. kNotKnown: not to be had.
uint64_t read_pss();

}  // namespace tidemark::platform
