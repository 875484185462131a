#include "preload/hooks/real.h"

namespace tidemark::hooks::real {

#define TIDEMARK_DEFINE_SLOT(name) constinit void* detail::name##_slot = nullptr;
TIDEMARK_REAL_FUNCTIONS(TIDEMARK_DEFINE_SLOT)
#undef TIDEMARK_DEFINE_SLOT

void* detail::resolve_one(const char* name, void** slot) {
  void* found = dlsym(RTLD_NEXT, name);
  __atomic_store_n(slot, found, __ATOMIC_RELAXED);
  return found;
}

void resolve() {
#define TIDEMARK_RESOLVE(name) detail::resolve_one(#name, &detail::name##_slot);
  TIDEMARK_REAL_FUNCTIONS(TIDEMARK_RESOLVE)
#undef TIDEMARK_RESOLVE
}

}  // namespace tidemark::hooks::real
