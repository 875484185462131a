// Which pages of this process are in memory (/proc/thread-self/pagemap, the kernel's admin-guide/mm/pagemap.rst), through a file that is kept open
// (kept_file.h). By mincore(2) only where that cannot be opened and there is no seccomp filter: systemd's usual set of system calls for services
// (@system-service) kills who makes that one.
#pragma once
#include <cstdint>

namespace tidemark::platform {

// The entries of `pages` pages from `start` on; bit 63: the page is in memory. false: they cannot be read.
bool read_pagemap(uintptr_t start, uint32_t pages, uint64_t* entries);
inline bool is_present(uint64_t entry) { return entry >> 63; }

}  // namespace tidemark::platform
