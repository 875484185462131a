// What a hook is declared with, and how it says where it was called from.
#pragma once
#include <cstdint>

#include "preload/heap/tracker.h"

// An interposed function: C linkage, and visible in a library that hides everything else.
#define TIDEMARK_HOOK extern "C" __attribute__((visibility("default")))

// Must stand in the hook itself, before anything else: it makes the compiler set up a frame there, from which the caller's
// registers at the return of the hook can be read.
#define TIDEMARK_CALLER()                                                                                          \
  (::tidemark::heap::Caller{.pc = reinterpret_cast<uintptr_t>(__builtin_return_address(0)),                        \
                            .sp = reinterpret_cast<uintptr_t>(__builtin_frame_address(0)) + 2 * sizeof(uintptr_t), \
                            .rbp = *static_cast<const uintptr_t*>(__builtin_frame_address(0))})
