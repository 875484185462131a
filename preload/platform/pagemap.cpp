#include "preload/platform/pagemap.h"

#include <sys/mman.h>

#include "preload/base/memory.h"
#include "preload/format/region.h"
#include "preload/platform/kept_file.h"

namespace tidemark::platform {

static constinit KeptFile pagemap("/proc/thread-self/pagemap");

// The file is the user's own, and root's once the process has given up being root (proc(5), "dumpable").
static bool ask_mincore(uintptr_t start, uint32_t pages, uint64_t* entries) {
  constexpr uint32_t kAtOnce = 1024;
  unsigned char resident[kAtOnce];
  if (!base::may_copy_by_kernel()) return false;
  for (uint32_t done = 0; done < pages;) {
    uint32_t now = pages - done < kAtOnce ? pages - done : kAtOnce;
    uintptr_t at = (start & ~uintptr_t{format::kPageBytes - 1}) + uintptr_t{done} * format::kPageBytes;
    if (mincore(reinterpret_cast<void*>(at), now * format::kPageBytes, resident) != 0) return false;
    for (uint32_t i = 0; i < now; i++) entries[done + i] = uint64_t(resident[i] & 1) << 63;
    done += now;
  }
  return true;
}

bool read_pagemap(uintptr_t start, uint32_t pages, uint64_t* entries) {
  size_t bytes = pages * sizeof(uint64_t);
  return pagemap.read_at(start / format::kPageBytes * sizeof(uint64_t), reinterpret_cast<char*>(entries), bytes) == bytes || ask_mincore(start, pages, entries);
}

}  // namespace tidemark::platform
