// dlopen with RTLD_DEEPBIND would bind a library to libc's malloc while the rest of the process frees its blocks in our heap.
#include <dlfcn.h>

#include "preload/hooks/caller.h"
#include "preload/hooks/real.h"
#include "preload/keeper/process_events.h"

// libc's dlopen takes RUNPATH, $ORIGIN and the namespace from its caller, by the return address: the call must be a jump, in a
// debug build too.
TIDEMARK_HOOK __attribute__((optimize("O2"))) void* dlopen(const char* file, int mode) {
  if (mode & RTLD_DEEPBIND) [[unlikely]] {
    tidemark::keeper::note_deepbind_stripped();
    mode &= ~RTLD_DEEPBIND;
  }
  return tidemark::hooks::real::dlopen()(file, mode);
}
