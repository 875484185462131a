// Calls of libc that the shim makes for itself: see own_calls.cpp.
#pragma once

namespace tidemark::base {

// By the constructor. Before it, time is asked of the kernel, and no thread can be made.
void learn_own_calls();

}  // namespace tidemark::base

// What `syscall` means here, for who defines that name itself.
extern "C" long __wrap_syscall(long number, ...) __attribute__((visibility("hidden")));
