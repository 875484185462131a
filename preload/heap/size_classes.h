// jemalloc's size classes, without a call of it: its own functions make the calling thread's cache, under locks, where there is none yet. 8, then four to a
// doubling from 16 on (multiples of 16); jemalloc(3), "size classes". Checked against nallocx by a unit test. Any thread, also in a signal handler.
#pragma once
#include <bit>
#include <cstdint>

#include "preload/heap/page_map.h"

namespace tidemark::heap {

// usable size / 8 of a request of up to 8 × index bytes.
struct SizeClasses {
  uint16_t by_8[kLarge / 8 + 1];
};
constexpr SizeClasses make_size_classes() {
  SizeClasses s{};
  uint32_t index = 0;
  for (uint32_t size = 8; size <= kLarge - 2048;) {
    for (; index <= size / 8; index++) s.by_8[index] = uint16_t(size / 8);
    uint32_t step = 16;
    while (step * 8 <= size) step *= 2;
    size += size == 8 ? 8 : step;
  }
  return s;
}
inline constexpr SizeClasses kSizeClasses = make_size_classes();

inline constexpr size_t kMostSmall = kLarge - 2048;   // bytes of a block that is not a large one
// Size class / 8 that jemalloc gives, 0 for a large block.
TIDEMARK_INLINE uint32_t size8_of(size_t bytes) {
  return TIDEMARK_LIKELY(bytes <= kMostSmall) ? kSizeClasses.by_8[(bytes + 7) / 8] : 0;
}
inline uint32_t size8_of_usable(size_t usable) { return usable < kLarge ? uint32_t(usable / 8) : 0; }

inline constexpr size_t kMostBytes = size_t{7} << 60;   // the largest class
// Usable bytes of a request of so many, 1 or more; 0: more than any class has.
constexpr size_t usable_of(size_t bytes) {
  if (bytes <= kMostSmall) return size_t{kSizeClasses.by_8[(bytes + 7) / 8]} * 8;
  if (bytes > kMostBytes) return 0;
  size_t step = std::bit_floor(bytes * 2 - 1) / 8;
  return (bytes + step - 1) & ~(step - 1);
}
// The same, aligned to a power of two: a small one from the class of the next multiple, else whole pages (jemalloc 5.3, sz_sa2u).
constexpr size_t usable_of(size_t bytes, size_t alignment) {
  if (alignment <= 1) return usable_of(bytes);
  if (bytes <= kMostSmall && alignment <= format::kPageBytes) {
    size_t usable = usable_of((bytes + alignment - 1) & ~(alignment - 1));
    if (usable < kLarge) return usable;
  }
  if (alignment > kMostBytes) return 0;
  size_t usable = usable_of(bytes < kLarge ? kLarge : bytes);
  size_t pages = usable + alignment + format::kPageBytes;   // with room to align, and one page more (large_pad)
  return usable && pages > usable && usable + alignment <= kMostBytes * 2 ? usable : 0;
}

}  // namespace tidemark::heap
