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

// One form: the hook, and what it jumps to where the operators may be somebody else's; `otherwise` is done if this one is not.
#define TIDEMARK_DELETE(name, parameters, arguments, otherwise)  \
  TIDEMARK_HOOK void name parameters;                            \
  static TIDEMARK_COLD void name##_elsewhere parameters {        \
    TIDEMARK_HAND_ON(name, arguments);                           \
    otherwise;                                                   \
  }                                                              \
  TIDEMARK_HOOK void name parameters {                           \
    if (hooks::maybe_elsewhere()) [[unlikely]]                   \
      return name##_elsewhere arguments;                         \
    if (block != nullptr) [[likely]]                             \
      heap::release(block);                                      \
  }

TIDEMARK_DELETE(_ZdlPv, (void* block), (block), release_anywhere(block))
TIDEMARK_DELETE(_ZdaPv, (void* block), (block), release_anywhere(block))
TIDEMARK_DELETE(_ZdlPvm, (void* block, size_t bytes), (block, bytes), release_anywhere(block))
TIDEMARK_DELETE(_ZdaPvm, (void* block, size_t bytes), (block, bytes), release_anywhere(block))
TIDEMARK_DELETE(_ZdlPvRKSt9nothrow_t, (void* block, const Nothrow* nothrow), (block, nothrow), release_anywhere(block))
TIDEMARK_DELETE(_ZdaPvRKSt9nothrow_t, (void* block, const Nothrow* nothrow), (block, nothrow), release_anywhere(block))
TIDEMARK_DELETE(_ZdlPvSt11align_val_t, (void* block, size_t alignment), (block, alignment), release_anywhere(block))
TIDEMARK_DELETE(_ZdaPvSt11align_val_t, (void* block, size_t alignment), (block, alignment), release_anywhere(block))
TIDEMARK_DELETE(_ZdlPvSt11align_val_tRKSt9nothrow_t, (void* block, size_t alignment, const Nothrow* nothrow), (block, alignment, nothrow), release_anywhere(block))
TIDEMARK_DELETE(_ZdaPvSt11align_val_tRKSt9nothrow_t, (void* block, size_t alignment, const Nothrow* nothrow), (block, alignment, nothrow), release_anywhere(block))
// The simpler form of these is called with other arguments than theirs, so the table of elsewhere.h leaves it to us.
TIDEMARK_DELETE(_ZdlPvmSt11align_val_t, (void* block, size_t bytes, size_t alignment), (block, bytes, alignment),
                _ZdlPvSt11align_val_t_elsewhere(block, alignment))
TIDEMARK_DELETE(_ZdaPvmSt11align_val_t, (void* block, size_t bytes, size_t alignment), (block, bytes, alignment),
                _ZdaPvSt11align_val_t_elsewhere(block, alignment))
