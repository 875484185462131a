// The functions behind ours: those that the program would have called without the shim. Looked up once by the constructor;
// earlier calls (from a constructor of a library that came first) look for themselves. Nothing on malloc's way uses these.
#pragma once
#include <dlfcn.h>
#include <grp.h>
#include <sched.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#define TIDEMARK_REAL_FUNCTIONS(X) \
  X(_exit)                         \
  X(_Exit)                         \
  X(quick_exit)                    \
  X(execve)                        \
  X(execvpe)                       \
  X(fexecve)                       \
  X(execveat)                      \
  X(posix_spawn)                   \
  X(posix_spawnp)                  \
  X(unshare)                       \
  X(setuid)                        \
  X(setgid)                        \
  X(seteuid)                       \
  X(setegid)                       \
  X(setreuid)                      \
  X(setregid)                      \
  X(setresuid)                     \
  X(setresgid)                     \
  X(setgroups)                     \
  X(initgroups)                    \
  X(setns)                         \
  X(dlopen)                        \
  X(prctl)                         \
  X(chroot)                        \
  X(daemon)                        \
  X(prlimit)                       \
  X(brk)                           \
  X(mmap)                          \
  X(munmap)                        \
  X(mremap)                        \
  X(mprotect)                      \
  X(pkey_mprotect)                 \
  X(madvise)                       \
  X(fopen)                         \
  X(fopen64)

namespace tidemark::hooks::real {

void resolve();

namespace detail {
void* resolve_one(const char* name, void** slot);

#define TIDEMARK_DECLARE_SLOT(name) extern constinit void* name##_slot;
TIDEMARK_REAL_FUNCTIONS(TIDEMARK_DECLARE_SLOT)
#undef TIDEMARK_DECLARE_SLOT
}  // namespace detail

#define TIDEMARK_DEFINE_ACCESSOR(name)                                     \
  inline auto* name() {                                                    \
    void* found = __atomic_load_n(&detail::name##_slot, __ATOMIC_RELAXED); \
    if (found == nullptr) [[unlikely]]                                     \
      found = detail::resolve_one(#name, &detail::name##_slot);            \
    return reinterpret_cast<decltype(&::name)>(found);                     \
  }
TIDEMARK_REAL_FUNCTIONS(TIDEMARK_DEFINE_ACCESSOR)
#undef TIDEMARK_DEFINE_ACCESSOR

// For what may be called where the loader must not be: nullptr until the constructor has run.
#define TIDEMARK_DEFINE_KNOWN(name) \
  inline auto* known_##name() { return reinterpret_cast<decltype(&::name)>(__atomic_load_n(&detail::name##_slot, __ATOMIC_RELAXED)); }
TIDEMARK_DEFINE_KNOWN(mmap)
TIDEMARK_DEFINE_KNOWN(munmap)
TIDEMARK_DEFINE_KNOWN(mremap)
TIDEMARK_DEFINE_KNOWN(mprotect)
TIDEMARK_DEFINE_KNOWN(pkey_mprotect)
TIDEMARK_DEFINE_KNOWN(madvise)
#undef TIDEMARK_DEFINE_KNOWN

}  // namespace tidemark::hooks::real
