#include "preload/stacks/path.h"

#include <algorithm>
#include <atomic>

#include "preload/stacks/step.h"

namespace tidemark::stacks {

constinit Recent recent_of_main[kRecent]{};

namespace {
constinit std::atomic<uint32_t> epoch{1};

constexpr uint64_t kPc = kLookCloser - 1;

// Whether frame i, whose return address is what it was, still leads to the one outside of it.
bool leads_outwards(const Path& path, uint32_t i) {
  address saved = path.frame(i - 1).needs_rbp ? path.rbp_saved(i) : 0, cfa_at = path.cfa_at(i);
  return (!saved || base::load(saved) == path.rbp(i - 1)) && (!cfa_at || base::load(cfa_at) == path.sp(i - 1));
}

// How many frames are at sp or further out.
uint32_t outside_of(const Path& path, address sp) {
  for (uint32_t n = path.count; n;) {
    uint32_t first = (n - 1) / kPartFrames * kPartFrames;
    const Return *returns = path.parts[first / kPartFrames].returns, *r = returns + (n - first);
    while (r > returns && r[-1].at + 8 < sp) r--;
    n = first + uint32_t(r - returns);
    if (r > returns) return n;
  }
  return 0;
}

void keep(Path& path, uint32_t n, const Frame& f, bool needs_rbp) {
  address at = f.sp - 8;
  path.returned(n) = {at, f.word & format::kPcMask};
  PathFrame& kept = path.frame(n);
  kept = f.kept;
  kept.words = uint16_t(f.word >> 48);
  kept.rbp_away = int32_t(f.rbp - at);
  kept.needs_rbp = needs_rbp;
}
}  // namespace

uint32_t still_there(const Path& path, address sp) {
  uint32_t n = outside_of(path, sp);
  if (!n || path.epoch != path_epoch() || (path.end_at && !is_no_code(base::load(path.end_at)))) return 0;
  for (uint32_t first = 0; first < n - 1; first += kPartFrames) {
    const Return *returns = path.parts[first / kPartFrames].returns, *end = returns + std::min(n - 1 - first, kPartFrames);
    for (const Return* r = returns; r < end; r++) {
      uint64_t found = base::load(r->at);
      bool closer = r->pc & kLookCloser;
      if (TIDEMARK_LIKELY(found == r->pc) && TIDEMARK_LIKELY(!closer)) continue;
      uint32_t i = first + uint32_t(r - returns);
      if (!closer || found != (r->pc & kPc) || !leads_outwards(path, i + 1)) return i + 1;
    }
  }
  return n;
}

void append(Path& path, const Frame* frames, uint32_t count) {
  uint32_t n = path.count;
  if (n) path.returned(n - 1).pc &= kPc;   // the mark told of another frame
  bool passed_on = n && path.frame(n - 1).needs_rbp;
  while (count--) {
    const Frame& frame = frames[count];
    if (TIDEMARK_UNLIKELY(n == kMostPathFrames || !frame.fixed)) break;
    if (TIDEMARK_UNLIKELY(n && (kind_of(frame.kept.rule) == format::kRuleDeref || (frame.kept.rbp_saved && passed_on)))) path.returned(n - 1).pc |= kLookCloser;
    passed_on = frame.uses_rbp || (!frame.kept.rbp_saved && passed_on);
    if (TIDEMARK_UNLIKELY(passed_on && !is_near(frame.rbp - (frame.sp - 8)))) break;
    keep(path, n++, frame, passed_on);
  }
  base::compiler_barrier();   // a handler may jump out of here
  path.count = n;
}

void forget_paths() { epoch.fetch_add(1); }
uint32_t path_epoch() { return epoch.load(std::memory_order_relaxed); }

}  // namespace tidemark::stacks
