// Memory for tables of many megabytes that are read here and there: in huge pages where the kernel has any, so that there are fewer faults, and
// look-ups don't wait for the processor's own tables of pages.
#pragma once
#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <utility>

namespace tidemark::region {

// An allocator of the standard library's kind. What has no constructor is not set to zero by vector::resize.
template <typename T>
struct LargePages {
  using value_type = T;
  LargePages() = default;
  template <typename U>
  LargePages(const LargePages<U>&) {}

  T* allocate(size_t count) {
    if (!is_large(count)) return std::allocator<T>().allocate(count);
    if (count > (SIZE_MAX - kHugePage) / sizeof(T)) throw std::bad_alloc();
    size_t bytes = (count * sizeof(T) + kHugePage - 1) & ~(kHugePage - 1);
    void* memory = std::aligned_alloc(kHugePage, bytes);
    if (memory == nullptr) throw std::bad_alloc();
    madvise(memory, bytes, MADV_HUGEPAGE);  // only a wish
    return static_cast<T*>(memory);
  }
  void deallocate(T* memory, size_t count) { is_large(count) ? std::free(memory) : std::allocator<T>().deallocate(memory, count); }

  template <typename U>
  void construct(U* place) {
    ::new (static_cast<void*>(place)) U;
  }
  template <typename U, typename First, typename... Others>
  void construct(U* place, First&& first, Others&&... others) {
    ::new (static_cast<void*>(place)) U(std::forward<First>(first), std::forward<Others>(others)...);
  }

  template <typename U>
  bool operator==(const LargePages<U>&) const { return true; }

 private:
  static constexpr size_t kHugePage = 2 << 20;
  static bool is_large(size_t count) { return count >= 2 * kHugePage / sizeof(T); }
};

}  // namespace tidemark::region
