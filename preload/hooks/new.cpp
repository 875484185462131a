// Every form of operator new, by mangled name. The forms differ only in what happens when there is no memory, which is
// cpp_runtime's.
#include <cstddef>
#include <cstdint>

#include "preload/heap/tracker.h"
#include "preload/hooks/alignment.h"
#include "preload/hooks/caller.h"
#include "preload/hooks/cpp_runtime.h"
#include "preload/hooks/elsewhere.h"
#include "preload/hooks/foreign_heap.h"

namespace {

using tidemark::HookFrame;
using tidemark::heap::Caller;
using tidemark::hooks::NewRequest;

struct Nothrow;  // std::nothrow_t

// A foreign heap is the program's malloc, as it would be with the operator new of its C++ library.
TIDEMARK_COLD void* attempt_anywhere(size_t bytes, size_t alignment, Caller caller) {
  if (!tidemark::hooks::is_power_of_two(alignment)) return nullptr;
  if (tidemark::hooks::foreign()) {
    if (bytes == 0) bytes = 1;
    return alignment == 1 ? tidemark::hooks::program_malloc(bytes) : tidemark::hooks::program_aligned_alloc(alignment, bytes);
  }
  return alignment == 1 ? tidemark::heap::allocate(bytes, caller) : tidemark::heap::allocate_aligned(alignment, bytes, caller);
}

// One attempt.
inline __attribute__((always_inline)) void* attempt_aligned(size_t bytes, size_t alignment, Caller caller) {
  if (!tidemark::hooks::is_power_of_two(alignment)) [[unlikely]]
    return nullptr;
  return tidemark::heap::allocate_aligned(alignment, bytes, caller);
}

void* attempt_again(const NewRequest& request) { return attempt_anywhere(request.bytes, request.alignment, request.caller); }

}  // namespace

// The caller is read again after a failure rather than kept: an attempt that succeeds has no registers to save for it.
#define TIDEMARK_TRY(attempt, alignment, after_failure, ...) \
  void* block = attempt;                                     \
  if (block != nullptr) [[likely]]                           \
    return block;                                            \
  return tidemark::hooks::after_failure({bytes, alignment, TIDEMARK_CALLER(), attempt_again} __VA_OPT__(, ) __VA_ARGS__)

// One form: the hook, and what it jumps to where the operators may be somebody else's. The name is the mangled one, by which the
// program's own form is found.
#define TIDEMARK_NEW(name, parameters, arguments, attempt, alignment, ...)                            \
  TIDEMARK_HOOK void* name parameters;                                                                \
  static TIDEMARK_COLD void* name##_elsewhere parameters {                                            \
    TIDEMARK_HAND_ON(name, arguments);                                                                \
    TIDEMARK_TRY(attempt_anywhere(bytes, alignment, TIDEMARK_CALLER()), alignment, __VA_ARGS__);      \
  }                                                                                                   \
  TIDEMARK_HOOK void* name parameters {                                                               \
    if (tidemark::hooks::maybe_elsewhere()) [[unlikely]]                                              \
      return name##_elsewhere arguments;                                                              \
    TIDEMARK_TRY(attempt, alignment, __VA_ARGS__);                                                    \
  }

TIDEMARK_NEW(_Znwm, (size_t bytes), (bytes), tidemark::heap::allocate(bytes, HookFrame{}), 1, new_after_failure)
TIDEMARK_NEW(_Znam, (size_t bytes), (bytes), tidemark::heap::allocate(bytes, HookFrame{}), 1, new_after_failure)
TIDEMARK_NEW(_ZnwmSt11align_val_t, (size_t bytes, size_t alignment), (bytes, alignment),
             attempt_aligned(bytes, alignment, TIDEMARK_CALLER()), alignment, new_after_failure)
TIDEMARK_NEW(_ZnamSt11align_val_t, (size_t bytes, size_t alignment), (bytes, alignment),
             attempt_aligned(bytes, alignment, TIDEMARK_CALLER()), alignment, new_after_failure)
TIDEMARK_NEW(_ZnwmRKSt9nothrow_t, (size_t bytes, const Nothrow* nothrow), (bytes, nothrow),
             tidemark::heap::allocate(bytes, HookFrame{}), 1, nothrow_new_after_failure, "_ZnwmRKSt9nothrow_t")
TIDEMARK_NEW(_ZnamRKSt9nothrow_t, (size_t bytes, const Nothrow* nothrow), (bytes, nothrow),
             tidemark::heap::allocate(bytes, HookFrame{}), 1, nothrow_new_after_failure, "_ZnamRKSt9nothrow_t")
TIDEMARK_NEW(_ZnwmSt11align_val_tRKSt9nothrow_t, (size_t bytes, size_t alignment, const Nothrow* nothrow), (bytes, alignment, nothrow),
             attempt_aligned(bytes, alignment, TIDEMARK_CALLER()), alignment, nothrow_aligned_new_after_failure, "_ZnwmSt11align_val_tRKSt9nothrow_t")
TIDEMARK_NEW(_ZnamSt11align_val_tRKSt9nothrow_t, (size_t bytes, size_t alignment, const Nothrow* nothrow), (bytes, alignment, nothrow),
             attempt_aligned(bytes, alignment, TIDEMARK_CALLER()), alignment, nothrow_aligned_new_after_failure, "_ZnamSt11align_val_tRKSt9nothrow_t")
