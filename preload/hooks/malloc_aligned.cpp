// The aligned members of the malloc family. What they do with an alignment that is no power of two differs between them and
// between versions of glibc.
#include <gnu/libc-version.h>
#include <malloc.h>

#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "preload/heap/tracker.h"
#include "preload/hooks/alignment.h"
#include "preload/hooks/caller.h"
#include "preload/hooks/foreign_heap.h"

namespace heap = tidemark::heap;
using tidemark::hooks::is_power_of_two;

namespace {

using tidemark::HookFrame;

inline constexpr size_t kMallocAlignment = 8;  // what jemalloc's malloc gives to every size: its smallest class is 8 bytes
inline constexpr size_t kPageSize = 4096;      // x86-64's only one for valloc

void* refuse(int error) {
  errno = error;
  return nullptr;
}

// As glibc's memalign: an alignment that is no power of two is rounded up to one.
inline __attribute__((always_inline)) void* allocate_rounding_alignment(size_t alignment, size_t bytes, HookFrame hook) {
  if (alignment <= kMallocAlignment) return heap::allocate(bytes, hook);
  constexpr size_t kLargestPowerOfTwo = ~(~size_t{0} >> 1);
  if (alignment > kLargestPowerOfTwo) return refuse(EINVAL);
  return heap::allocate_aligned(std::bit_ceil(alignment), bytes, hook.caller());
}

// From 2.38 on aligned_alloc is no longer memalign by another name.
bool ask_aligned_alloc_is_strict() {
  const char* version = gnu_get_libc_version();  // "2.36"
  int numbers[2] = {0, 0};
  for (int& number : numbers) {
    for (; *version >= '0' && *version <= '9'; ++version) number = number * 10 + (*version - '0');
    if (*version == '.') ++version;
  }
  return numbers[0] > 2 || numbers[1] >= 38;
}

bool aligned_alloc_is_strict() {
  enum : uint8_t { kUnknown, kNo, kYes };
  static constinit uint8_t answer = kUnknown;
  if (answer == kUnknown) answer = ask_aligned_alloc_is_strict() ? kYes : kNo;
  return answer == kYes;
}

}  // namespace

TIDEMARK_HOOK void* memalign(size_t alignment, size_t bytes) {
  TIDEMARK_FORWARD_IF_FOREIGN(memalign, alignment, bytes)
  return allocate_rounding_alignment(alignment, bytes, HookFrame{});
}

TIDEMARK_HOOK void* aligned_alloc(size_t alignment, size_t bytes) {
  TIDEMARK_FORWARD_IF_FOREIGN(aligned_alloc, alignment, bytes)
  if (!is_power_of_two(alignment) && aligned_alloc_is_strict()) [[unlikely]]
    return refuse(EINVAL);
  return allocate_rounding_alignment(alignment, bytes, HookFrame{});
}

TIDEMARK_HOOK int posix_memalign(void** result, size_t alignment, size_t bytes) {
  TIDEMARK_FORWARD_IF_FOREIGN(posix_memalign, result, alignment, bytes)
  if (alignment < sizeof(void*) || !is_power_of_two(alignment)) [[unlikely]]
    return EINVAL;
  void* block = allocate_rounding_alignment(alignment, bytes, HookFrame{});
  if (block == nullptr) [[unlikely]]
    return ENOMEM;
  *result = block;
  return 0;
}

TIDEMARK_HOOK void* valloc(size_t bytes) {
  const heap::Caller caller = TIDEMARK_CALLER();
  TIDEMARK_FORWARD_IF_FOREIGN(valloc, bytes)
  return heap::allocate_aligned(kPageSize, bytes, caller);
}

TIDEMARK_HOOK void* pvalloc(size_t bytes) {
  const heap::Caller caller = TIDEMARK_CALLER();
  TIDEMARK_FORWARD_IF_FOREIGN(pvalloc, bytes)
  size_t rounded;
  if (__builtin_add_overflow(bytes, kPageSize - 1, &rounded)) [[unlikely]]
    return refuse(ENOMEM);
  return heap::allocate_pages(bytes, rounded & ~(kPageSize - 1), caller);
}
