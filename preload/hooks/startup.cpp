// What must be in place before the program's own code runs.
#include <stdlib.h>
#include <unistd.h>

#include "preload/base/jemalloc.h"
#include "preload/hooks/cpp_runtime.h"
#include "preload/hooks/elsewhere.h"
#include "preload/hooks/real.h"
#include "preload/keeper/process_events.h"
#include "preload/platform/main_executable.h"

namespace keeper = tidemark::keeper;
namespace platform = tidemark::platform;

namespace {

void note_exit_status(int status, void*) { keeper::note_exit(status); }

// 101 is the earliest priority that is not the compiler's. Libraries' constructors may have run before, libc's not always, which gives `environ` the same
// value later.
__attribute__((constructor(101))) void start(int, char**, char** environment) {
  if (environ == nullptr) environ = environment;
  tidemark::hooks::real::resolve();
  tidemark::hooks::learn_cpp_runtime();
  tidemark::hooks::learn_others();
  tmje_on_fork(keeper::inside_allocator, keeper::before_fork, keeper::after_fork_parent, keeper::after_fork_child);
  // Registered before the program's own, so run after them, and given the status that atexit functions don't see.
  on_exit(note_exit_status, nullptr);
  keeper::start(platform::malloc_is_elsewhere());
}

}  // namespace
