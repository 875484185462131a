#include "preload/platform/pagemap.h"

#include <errno.h>
#include <sys/mman.h>

#include "preload/base/memory.h"
#include "preload/format/region.h"
#include "preload/platform/kept_file.h"

namespace tidemark::platform {

static constinit KeptFile pagemap("/proc/thread-self/pagemap");

// The file is the user's own, and root's once the process has given up being root (proc(5), "dumpable").
// Where a hole is among the pages, mincore tells nothing of the others.
static bool ask_mincore(uintptr_t start, uint32_t pages, uint64_t* entries) {
  constexpr uint32_t kAtOnce = 1024;
  constexpr uintptr_t kPage = format::kPageBytes;
  unsigned char resident[kAtOnce];
  if (!base::may_copy_by_kernel()) return false;
  bool failed = pages > kAtOnce || mincore(reinterpret_cast<void*>(start & ~(kPage - 1)), pages * kPage, resident) != 0;
  if (failed && pages > 1) {
    uint32_t half = pages / 2;
    return ask_mincore(start, half, entries) && ask_mincore(start + half * kPage, pages - half, entries + half);
  }
  if (failed && errno != ENOMEM) return false;
  for (uint32_t i = 0; i < pages; i++) entries[i] = failed ? 0 : uint64_t(resident[i] & 1) << 63;
  return true;
}

bool read_pagemap(uintptr_t start, uint32_t pages, uint64_t* entries) {
  size_t bytes = pages * sizeof(uint64_t);
  return pagemap.read_at(start / format::kPageBytes * sizeof(uint64_t), reinterpret_cast<char*>(entries), bytes) == bytes || ask_mincore(start, pages, entries);
}

}  // namespace tidemark::platform
