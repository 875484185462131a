#include "preload/platform/libunwind.h"

#include <dlfcn.h>

namespace tidemark::platform {

Backtrace load_libunwind() {
  void* library = dlopen("libunwind.so.8", RTLD_NOW | RTLD_LOCAL);
  auto backtrace = library ? reinterpret_cast<Backtrace>(dlsym(library, "unw_backtrace")) : nullptr;
  void* pcs[8];
  if (backtrace) backtrace(pcs, 8);
  return backtrace;
}

}  // namespace tidemark::platform
