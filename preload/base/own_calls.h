// Calls of libc that the shim makes for itself: see own_calls.cpp.
#pragma once

namespace tidemark::base {

// By the first call of malloc, which may come before the constructor and makes the region.
void learn_own_calls();

// By the constructor: before it no thread can be made.
void learn_to_make_threads();

}  // namespace tidemark::base

// What `syscall` means here, for who defines that name itself.
extern "C" long __wrap_syscall(long number, ...) __attribute__((visibility("hidden")));
