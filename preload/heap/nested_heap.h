// Memory for signal handlers that interrupted the allocator (jemalloc must not be entered again there) and for our own needs: blocks
// from a range of our own. Bump allocation with free lists by size; every step is safe against being interrupted by itself.
#pragma once
#include <cstddef>

#include "preload/base/common.h"

namespace tidemark::heap {

// The range; no bytes until it is whole: with an end instead, all addresses above nested_begin were in it for a moment.
TIDEMARK_OWN address nested_begin, nested_bytes;
inline bool is_nested(const void* p) {
  auto a = reinterpret_cast<address>(p);
  return TIDEMARK_UNLIKELY(a - nested_begin < nested_bytes);
}

// alignment: a power of two; zeroed when asked. nullptr when the range is used up. Async-signal-safe.
void* nested_allocate(size_t bytes, size_t alignment, bool zero);
void nested_release(void* p);       // any context
size_t nested_usable_size(const void* p);
void reset_nested_lock();   // child of fork

}  // namespace tidemark::heap
