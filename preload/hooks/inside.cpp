// What programs may call by tidemark.h.
#include <cstring>

#include "preload/hooks/caller.h"
#include "preload/keeper/inside.h"
#include "preload/keeper/marks.h"
#include "preload/tidemark.h"

namespace keeper = tidemark::keeper;

// `bytes`: of the caller's struct, which may be an older or a newer one.
TIDEMARK_HOOK int tidemark_shim_stats(tidemark_statistics* out, size_t bytes) {
  tidemark_statistics now{};
  if (out == nullptr || !keeper::read_statistics(now)) return -1;
  memset(out, 0, bytes);
  memcpy(out, &now, bytes < sizeof(now) ? bytes : sizeof(now));
  return 0;
}

TIDEMARK_HOOK int tidemark_shim_cleanup() { return keeper::ask_for_purge() ? 0 : -1; }
TIDEMARK_HOOK void tidemark_shim_mark(const char* name) { keeper::mark(name); }
