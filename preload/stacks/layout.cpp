#include "preload/stacks/layout.h"

#include <algorithm>

#include "preload/stacks/path.h"

namespace tidemark::stacks {
namespace {

constexpr uint32_t kMostWords = kMostSlots * kWordsPerSlot;

// Words of the stack by their distance from sp, in words.
struct Distances {
  uint16_t at[kMostWords];
  uint32_t count = 0;

  bool add(address word, address sp) {
    if (word < sp || (word - sp) % 8 || (word - sp) / 8 > UINT16_MAX || count == kMostWords) return false;
    at[count++] = uint16_t((word - sp) / 8);
    return true;
  }
};

// In order. Sets how many slots they take; false: there are too many.
bool fill_slots(const Distances& words, Layout& layout, uint32_t& used) {
  used = (words.count + kWordsPerSlot - 1) / kWordsPerSlot;
  if (layout.all + used > kMostSlots) return false;
  auto at = [&](uint32_t i) { return words.at[std::min(i, words.count - 1)]; };
  for (uint32_t i = 0; i < used; i++) layout.slots[layout.all++] = make_slot(at(4 * i), at(4 * i + 1), at(4 * i + 2), at(4 * i + 3));
  return true;
}

}  // namespace

bool lay_out(const Caller& caller, Layout& layout) {
  const Path* path = base::thread_state.path;
  if (!path || !path->count || path->frames[path->count - 1].sp != caller.sp) return false;
  Distances returns, chained, values;
  for (const Frame* f = path->frames + path->count - 1; f > path->frames; f--) {
    const Frame& outer = f[-1];
    address saved = outer.needs_rbp ? f->rbp_at : 0, led = outer.sp - 8;
    bool in_chain = saved && saved == led - 8;
    if (!(in_chain ? chained : returns).add(led, caller.sp)) return false;
    if (saved && !in_chain && !values.add(saved, caller.sp)) return false;
    if (f->cfa_at && !values.add(f->cfa_at, caller.sp)) return false;
  }
  if (path->end_at && !returns.add(path->end_at, caller.sp)) return false;
  std::sort(values.at, values.at + values.count);
  layout.rbp = path->frames[path->count - 1].needs_rbp;
  layout.all = 0;
  uint32_t n[3];
  if (!fill_slots(returns, layout, n[0]) || !fill_slots(chained, layout, n[1]) || !fill_slots(values, layout, n[2])) return false;
  layout.counts = counts_of(n[0], n[1], n[2]);
  return true;
}

}  // namespace tidemark::stacks
