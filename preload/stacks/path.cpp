#include "preload/stacks/path.h"

#include <atomic>

#include "preload/format/region.h"

namespace tidemark::stacks {
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
  if (!path.count || path.epoch != path_epoch()) return 0;
  address entry = path.frames[0].sp;
  if (entry < sp || (path.end_at && base::load(path.end_at))) return 0;
  uint64_t outer = path.steps[0];
  uint32_t i = 1;
  for (; i < path.count; i++) {
    uint64_t step = path.steps[i];
    if (base::load(entry - 8) != (outer & kPc)) break;
    entry -= (step >> 48) * 8;
    if (entry < sp || (TIDEMARK_UNLIKELY(step & kLookCloser) && !leads_to(path.frames[i], path.frames[i - 1]))) break;
    outer = step;
  }
  return i;
}

bool append(Path& path, const Frame& frame) {
  uint32_t n = path.count;
  uint64_t words = n ? (path.frames[n - 1].sp - frame.sp) / 8 : 0, pc = frame.word & format::kPcMask;
  if (n == kMostPathFrames || words > UINT16_MAX || pc > kPc || !frame.fixed) return false;
  Frame& f = path.frames[n] = frame;
  bool passed_on = n && path.frames[n - 1].needs_rbp;
  f.needs_rbp = f.uses_rbp || (!f.rbp_at && passed_on);
  bool look_closer = f.cfa_at || (f.rbp_at && passed_on);
  path.steps[n] = pc | (look_closer ? kLookCloser : 0) | words << 48;
  base::compiler_barrier();   // a handler may jump out of here
  path.count = n + 1;
  return true;
}

void forget_paths() { epoch.fetch_add(1); }
uint32_t path_epoch() { return epoch.load(std::memory_order_relaxed); }

}  // namespace tidemark::stacks
