// Every form of operator delete, by mangled name: nothing of a C++ runtime is needed to define them. The sizes and alignments
// that some are given tell the tracker nothing that it doesn't know.
#include <cstddef>

#include "preload/heap/tracker.h"
#include "preload/hooks/caller.h"
#include "preload/hooks/elsewhere.h"
#include "preload/hooks/foreign_heap.h"

namespace {

using namespace tidemark;

struct Nothrow;  // std::nothrow_t

TIDEMARK_COLD void release_anywhere(void* block) {
  if (block == nullptr) return;
  if (hooks::foreign()) return hooks::program_free(block);
  heap::release(block);
}

}  // namespace

// One form: the hook, and what it jumps to where the operators may be somebody else's.
#define TIDEMARK_DELETE_FORM(name, parameters, arguments, hand_on) \
  TIDEMARK_HOOK void name parameters;                              \
  static TIDEMARK_COLD void name##_elsewhere parameters {          \
    hand_on;                                                       \
    release_anywhere(block);                                       \
  }                                                                \
  TIDEMARK_HOOK void name parameters {                             \
    if (hooks::maybe_elsewhere()) [[unlikely]]                     \
      return name##_elsewhere arguments;                           \
    if (block != nullptr) [[likely]]                               \
      heap::release(block);                                        \
  }

#define TIDEMARK_DELETE(name, parameters, arguments) TIDEMARK_DELETE_FORM(name, parameters, arguments, TIDEMARK_HAND_ON(name, arguments))

TIDEMARK_DELETE(_ZdlPv, (void* block), (block))
TIDEMARK_DELETE(_ZdaPv, (void* block), (block))
TIDEMARK_DELETE(_ZdlPvm, (void* block, size_t bytes), (block, bytes))
TIDEMARK_DELETE(_ZdaPvm, (void* block, size_t bytes), (block, bytes))
TIDEMARK_DELETE(_ZdlPvRKSt9nothrow_t, (void* block, const Nothrow* nothrow), (block, nothrow))
TIDEMARK_DELETE(_ZdaPvRKSt9nothrow_t, (void* block, const Nothrow* nothrow), (block, nothrow))
TIDEMARK_DELETE(_ZdlPvSt11align_val_t, (void* block, size_t alignment), (block, alignment))
TIDEMARK_DELETE(_ZdaPvSt11align_val_t, (void* block, size_t alignment), (block, alignment))
TIDEMARK_DELETE(_ZdlPvSt11align_val_tRKSt9nothrow_t, (void* block, size_t alignment, const Nothrow* nothrow), (block, alignment, nothrow))
TIDEMARK_DELETE(_ZdaPvSt11align_val_tRKSt9nothrow_t, (void* block, size_t alignment, const Nothrow* nothrow), (block, alignment, nothrow))
// The simpler forms of these are called without the size in the middle.
#define TIDEMARK_HAND_ON_WITHOUT_SIZE(name, simpler)                      \
  const auto found = hooks::other_definition(hooks::Operator::name);      \
  if (found.code != nullptr && found.form != hooks::Operator::name)       \
    return reinterpret_cast<decltype(&simpler)>(found.code)(block, alignment)
#define TIDEMARK_DELETE_SIZED_ALIGNED(name, simpler)                                                              \
  TIDEMARK_DELETE_FORM(name, (void* block, size_t bytes, size_t alignment), (block, bytes, alignment),            \
                       TIDEMARK_HAND_ON_WITHOUT_SIZE(name, simpler); TIDEMARK_HAND_ON(name, (block, bytes, alignment)))

TIDEMARK_DELETE_SIZED_ALIGNED(_ZdlPvmSt11align_val_t, _ZdlPvSt11align_val_t)
TIDEMARK_DELETE_SIZED_ALIGNED(_ZdaPvmSt11align_val_t, _ZdaPvSt11align_val_t)
