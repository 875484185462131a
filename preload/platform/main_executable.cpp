#include "preload/platform/main_executable.h"

#include <link.h>

#include "preload/base/symbols.h"

namespace tidemark::platform {
namespace {

// The linker's: where this library is mapped, and its dynamic section.
extern "C" const ElfW(Dyn) _DYNAMIC[] __attribute__((visibility("hidden")));

bool defines(const link_map& module, const char* function) { return base::find_function(module, function) != nullptr; }

}  // namespace

bool main_executable_defines(const char* function) {
  // The loader's list begins with the executable, also when the loader itself was the command (where AT_PHDR is the loader's).
  const link_map* executable = _r_debug.r_map;
  return executable != nullptr && defines(*executable, function);
}

bool malloc_is_elsewhere() {
  for (const link_map* module = _r_debug.r_map; module != nullptr && module->l_ld != _DYNAMIC; module = module->l_next)
    if (module != _r_debug.r_map && defines(*module, "malloc")) return true;
  return false;
}

}  // namespace tidemark::platform
