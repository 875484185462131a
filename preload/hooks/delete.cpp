// Every form of operator delete, by mangled name: nothing of a C++ runtime is needed to define them. The sizes and alignments
// that some are given tell the tracker nothing that it doesn't know.
#include <cstddef>

#include "preload/heap/tracker.h"
#include "preload/hooks/caller.h"
#include "preload/hooks/foreign_heap.h"

namespace {

TIDEMARK_COLD void release_anywhere(void* block) {
  if (block == nullptr) return;
  if (tidemark::hooks::foreign()) return tidemark::hooks::program_free(block);
  tidemark::heap::release(block);
}

inline __attribute__((always_inline)) void release(void* block) {
  if (tidemark::hooks::maybe_foreign()) [[unlikely]]
    return release_anywhere(block);
  if (block != nullptr) [[likely]]
    tidemark::heap::release(block);
}

struct Nothrow;  // std::nothrow_t

}  // namespace

TIDEMARK_HOOK void _ZdlPv(void* block) { release(block); }
TIDEMARK_HOOK void _ZdaPv(void* block) { release(block); }
TIDEMARK_HOOK void _ZdlPvm(void* block, size_t) { release(block); }
TIDEMARK_HOOK void _ZdaPvm(void* block, size_t) { release(block); }
TIDEMARK_HOOK void _ZdlPvRKSt9nothrow_t(void* block, const Nothrow*) { release(block); }
TIDEMARK_HOOK void _ZdaPvRKSt9nothrow_t(void* block, const Nothrow*) { release(block); }
TIDEMARK_HOOK void _ZdlPvSt11align_val_t(void* block, size_t) { release(block); }
TIDEMARK_HOOK void _ZdaPvSt11align_val_t(void* block, size_t) { release(block); }
TIDEMARK_HOOK void _ZdlPvmSt11align_val_t(void* block, size_t, size_t) { release(block); }
TIDEMARK_HOOK void _ZdaPvmSt11align_val_t(void* block, size_t, size_t) { release(block); }
TIDEMARK_HOOK void _ZdlPvSt11align_val_tRKSt9nothrow_t(void* block, size_t, const Nothrow*) { release(block); }
TIDEMARK_HOOK void _ZdaPvSt11align_val_tRKSt9nothrow_t(void* block, size_t, const Nothrow*) { release(block); }
