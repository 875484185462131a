#include "preload/stacks/path.h"

#include <atomic>

namespace tidemark::stacks {

constinit Recent recent_of_main[kRecent]{};

namespace {
constinit std::atomic<uint32_t> epoch{1};

constexpr uint64_t kPc = kLookCloser - 1;

// Whether a frame whose return address is what it was still leads to `outer`.
bool leads_to(const Frame& f, const Frame& outer) {
  if (outer.needs_rbp && f.rbp_at && base::load(f.rbp_at) != outer.rbp) return false;
  return !f.cfa_at || base::load(f.cfa_at) == outer.sp;
}
}  // namespace

uint32_t still_there(const Path& path, address sp) {
  uint32_t n = path.count, i = 0;
  while (n && path.returns[n - 1].at + 8 < sp) n--;
  if (!n || path.epoch != path_epoch() || (path.end_at && base::load(path.end_at))) return 0;
  for (n--; i < n; i++) {
    uint64_t wanted = path.returns[i].pc, found = base::load(path.returns[i].at);
    bool closer = wanted & kLookCloser;
    if (TIDEMARK_LIKELY(found == wanted) && TIDEMARK_LIKELY(!closer)) continue;
    if (!closer || found != (wanted & kPc) || !leads_to(path.frames[i + 1], path.frames[i])) break;
  }
  return i + 1;
}

void append(Path& path, const Frame* frames, uint32_t count) {
  uint32_t n = path.count;
  if (n) path.returns[n - 1].pc &= kPc;   // the mark told of another frame
  bool passed_on = n && path.frames[n - 1].needs_rbp;
  while (count--) {
    const Frame& frame = frames[count];
    uint64_t pc = frame.word & format::kPcMask;
    if (TIDEMARK_UNLIKELY(n == kMostPathFrames || !frame.fixed)) break;
    if (TIDEMARK_UNLIKELY(n && (frame.cfa_at || (frame.rbp_at && passed_on)))) path.returns[n - 1].pc |= kLookCloser;
    passed_on = frame.uses_rbp || (!frame.rbp_at && passed_on);
    path.frames[n] = frame;
    path.frames[n].needs_rbp = passed_on;
    path.returns[n++] = {frame.sp - 8, pc};
  }
  base::compiler_barrier();   // a handler may jump out of here
  path.count = n;
}

void forget_paths() { epoch.fetch_add(1); }
uint32_t path_epoch() { return epoch.load(std::memory_order_relaxed); }

}  // namespace tidemark::stacks
