// Whether a program that is about to be executed takes the libraries that LD_PRELOAD names.
#pragma once

namespace tidemark::platform {

// False: it surely does not: it has no dynamic loader, another one than glibc's for x86-64, or execve will give it another user or group than the caller's,
// where the loader takes none from elsewhere (ld.so(8), secure-execution mode). True where that can't be told. A script is what executes it. Makes system calls
// only: fit for a vfork child and for signal handlers. errno may change.
bool takes_preload(const char* path);

// Where execvp finds this name (no '/'), by the caller's environment; "": nowhere. `out`: room for kMostPath.
inline constexpr unsigned kMostPath = 1024;
const char* search_path(const char* name, char* const* environment, char* out);

}  // namespace tidemark::platform
