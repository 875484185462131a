// A library allocates, is closed, and its blocks live on: the report must still name its function, file and line.
// Usage: dlclosed LIBRARY
#include <cstdlib>
#include <dlfcn.h>

#include "expect.h"

SITE void* site_in_program() { return keep(malloc(48)); }

int main(int, char** argv) {
  for (int round = 0; round < 10; round++) {
    void* library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (!library) return 2;
    auto entry = reinterpret_cast<void* (*)(size_t)>(dlsym(library, "plugin_entry"));
    void* last = nullptr;
    for (int i = 0; i < 100; i++) last = entry(1234);
    dlclose(library);
    if (dlopen(argv[1], RTLD_NOW | RTLD_NOLOAD)) return 3;   // still loaded: the test would show nothing
    free(last);
    site_in_program();
  }
  expect("plugin_closed_site", 1000, 1234, 10);
  expect_callers("plugin_closed_site", "plugin_entry main");
  expect("site_in_program", 10, 48, 0);
}
