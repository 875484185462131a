#include "preload/platform/pagemap.h"

#include "preload/format/region.h"
#include "preload/platform/kept_file.h"

namespace tidemark::platform {

static constinit KeptFile pagemap("/proc/thread-self/pagemap");

bool read_pagemap(uintptr_t start, uint32_t pages, uint64_t* entries) {
  size_t bytes = pages * sizeof(uint64_t);
  return pagemap.read_at(start / format::kPageBytes * sizeof(uint64_t), reinterpret_cast<char*>(entries), bytes) == bytes;
}

}  // namespace tidemark::platform
