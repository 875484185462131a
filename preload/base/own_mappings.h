// mmap(2), munmap(2) and mremap(2) for the shim itself: past its own hooks, which note what the program maps.
#pragma once
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>

namespace tidemark::base {

inline void* own_mmap(void* start, size_t bytes, int protection, int flags, int file, off_t offset) {
  return reinterpret_cast<void*>(syscall(SYS_mmap, start, bytes, protection, flags, file, offset));
}
inline int own_munmap(void* start, size_t bytes) { return int(syscall(SYS_munmap, start, bytes)); }
inline void* own_mremap(void* old, size_t old_bytes, size_t bytes, int flags, void* start) {
  return reinterpret_cast<void*>(syscall(SYS_mremap, old, old_bytes, bytes, flags, start));
}

}  // namespace tidemark::base
