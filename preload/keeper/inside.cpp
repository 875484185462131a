#include "preload/keeper/inside.h"

#include "preload/base/store.h"
#include "preload/heap/threads.h"
#include "preload/keeper/monitor.h"
#include "preload/keeper/session.h"
#include "preload/tidemark.h"

namespace tidemark::keeper {

bool read_statistics(tidemark_statistics& out) {
  if (!recording()) return false;
  const format::Header& h = base::header();
  int64_t live = 0;
  if (!base::as_hook([&] { live = heap::total_live(); })) return false;   // a handler inside the allocator
  out.live_bytes = live > 0 ? uint64_t(live) : 0;
  out.peak_live_bytes = h.peak_live_bytes > out.live_bytes ? h.peak_live_bytes : out.live_bytes;
  out.rss_bytes = latest_rss();
  out.baseline_rss_bytes = h.baseline_rss;
  out.purges = h.purges;
  out.warnings = h.warnings;
  return true;
}

bool ask_for_purge() {
  if (!recording()) return false;
  want_purge();
  return true;
}

}  // namespace tidemark::keeper
