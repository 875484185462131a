// What must be in place before the program's own code runs.
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

#include "preload/base/jemalloc.h"
#include "preload/hooks/real.h"
#include "preload/keeper/process_events.h"

namespace keeper = tidemark::keeper;

namespace {

extern "C" const char __ehdr_start __attribute__((visibility("hidden")));   // the linker's: where this library is mapped

// The program's calls of malloc go to another library, which comes before ours in the loader's order.
bool malloc_is_elsewhere() {
  Dl_info first;
  void* found = dlsym(RTLD_DEFAULT, "malloc");
  return found && dladdr(found, &first) && first.dli_fbase != &__ehdr_start;
}

void note_exit_status(int status, void*) { keeper::note_exit(status); }

// 101 is the earliest priority that is not the compiler's. With DF_1_INITFIRST this runs even before libc's own constructor,
// which gives `environ` the same value later.
__attribute__((constructor(101))) void start(int, char**, char** environment) {
  if (environ == nullptr) environ = environment;
  tidemark::hooks::real::resolve();
  tmje_on_fork(keeper::inside_allocator, keeper::before_fork, keeper::after_fork_parent, keeper::after_fork_child);
  // Registered before the program's own, so run after them, and given the status that atexit functions don't see.
  on_exit(note_exit_status, nullptr);
  keeper::start(malloc_is_elsewhere());
}

}  // namespace
