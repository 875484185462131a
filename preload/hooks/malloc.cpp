// malloc and its kin: glibc's behaviour at the edges, the tracker's heap behind it.
//
// The loader calls these as soon as it has relocated the program, before any constructor and under its own locks: nothing here
// may call it, allocate, or need initialising.
#include <malloc.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "preload/heap/tracker.h"
#include "preload/hooks/caller.h"
#include "preload/hooks/elsewhere.h"
#include "preload/hooks/foreign_heap.h"

namespace heap = tidemark::heap;

namespace {

using heap::Caller;
using tidemark::HookFrame;
using tidemark::hooks::maybe_foreign;

inline Caller caller_of(const Caller& caller) { return caller; }
inline __attribute__((always_inline)) Caller caller_of(HookFrame hook) { return hook.caller(); }

// Where: a Caller, or in the hook itself its frame.
template <class Where>
inline __attribute__((always_inline)) void* allocate_array(size_t count, size_t size, Where where) {
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes)) [[unlikely]] {
    errno = ENOMEM;
    return nullptr;
  }
  return heap::allocate_zeroed(bytes, where);
}

// realloc(p, 0) frees, as glibc's does and C23 leaves undefined.
template <class Where>
inline __attribute__((always_inline)) void* resize(void* block, size_t bytes, Where where) {
  if (block == nullptr) return heap::allocate(bytes, where);
  if (bytes == 0) [[unlikely]] {
    heap::release(block);
    return nullptr;
  }
  return heap::reallocate(block, bytes, caller_of(where));
}

TIDEMARK_COLD void* malloc_anywhere(size_t bytes, Caller caller) {
  TIDEMARK_FORWARD_IF_FOREIGN(malloc, bytes)
  return heap::allocate(bytes, caller);
}

TIDEMARK_COLD void* calloc_anywhere(size_t count, size_t size, Caller caller) {
  TIDEMARK_FORWARD_IF_FOREIGN(calloc, count, size)
  return allocate_array(count, size, caller);
}

TIDEMARK_COLD void* realloc_anywhere(void* block, size_t bytes, Caller caller) {
  TIDEMARK_FORWARD_IF_FOREIGN(realloc, block, bytes)
  return resize(block, bytes, caller);
}

TIDEMARK_COLD void free_anywhere(void* block) {
  TIDEMARK_FORWARD_IF_FOREIGN(free, block)
  if (block != nullptr) heap::release(block);
}

TIDEMARK_COLD size_t usable_size_anywhere(void* block) {
  TIDEMARK_FORWARD_IF_FOREIGN(malloc_usable_size, block)
  return heap::usable_size(block);
}

}  // namespace

TIDEMARK_HOOK void* malloc(size_t bytes) {
  if (maybe_foreign()) [[unlikely]]
    return malloc_anywhere(bytes, TIDEMARK_CALLER());
  return heap::allocate(bytes, HookFrame{});
}

TIDEMARK_HOOK void* calloc(size_t count, size_t size) {
  if (maybe_foreign()) [[unlikely]]
    return calloc_anywhere(count, size, TIDEMARK_CALLER());
  return allocate_array(count, size, HookFrame{});
}

TIDEMARK_HOOK void* realloc(void* block, size_t bytes) {
  if (maybe_foreign()) [[unlikely]]
    return realloc_anywhere(block, bytes, TIDEMARK_CALLER());
  return resize(block, bytes, HookFrame{});
}

TIDEMARK_HOOK void* reallocarray(void* block, size_t count, size_t size) {
  TIDEMARK_FORWARD_IF_FOREIGN(reallocarray, block, count, size)
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes)) [[unlikely]] {
    errno = ENOMEM;
    return nullptr;
  }
  return resize(block, bytes, HookFrame{});
}

TIDEMARK_HOOK void free(void* block) {
  if (maybe_foreign()) [[unlikely]]
    return free_anywhere(block);
  if (block != nullptr) [[likely]]
    heap::release(block);
}

// cfree left glibc in 2.26, and C23's sized forms came to it in 2.43: behind us there may be none to forward to, or a library's own function of that name.
namespace {

inline void release_anywhere(void* block) {
  if (block == nullptr) return;
  if (tidemark::hooks::foreign()) [[unlikely]]
    return tidemark::hooks::program_free(block);
  heap::release(block);
}

using Word = uintptr_t;

}  // namespace

// A library's own takes and returns whatever it does: it is jumped to, with the stack and the registers for arguments as they came. (Not those for
// floating point where a library's constructor calls it before anything asked who has it.)
#define TIDEMARK_SCARCE_HOOK(name)                                                                               \
  TIDEMARK_HOOK Word tidemark_##name(Word, Word, Word, Word, Word, Word) asm(#name);                             \
  TIDEMARK_HOOK Word tidemark_##name(Word first, Word second, Word third, Word fourth, Word fifth, Word sixth) { \
    if (void* other = tidemark::hooks::other_function(tidemark::hooks::Scarce::name)) [[unlikely]]               \
      return reinterpret_cast<decltype(&tidemark_##name)>(other)(first, second, third, fourth, fifth, sixth);    \
    release_anywhere(reinterpret_cast<void*>(first));                                                            \
    return 0;                                                                                                    \
  }
TIDEMARK_SCARCE(TIDEMARK_SCARCE_HOOK)

TIDEMARK_HOOK size_t malloc_usable_size(void* block) {
  if (maybe_foreign()) [[unlikely]]
    return usable_size_anywhere(block);
  return heap::usable_size(block);
}
