#include "preload/stacks/layout.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "preload/stacks/path.h"

namespace tidemark::stacks {
namespace {

constexpr uint32_t kMostWords = kMostSlots * kWordsPerSlot;

// Words of the stack by their distance from sp, in words.
struct Distances {
  uint16_t at[kMostWords];
  uint32_t count = 0;

  bool add(address word, address sp) {
    uint64_t words = std::rotr(word - sp, 3);   // too many also where it lies further in, or is not aligned
    if (words > UINT16_MAX || count == kMostWords) return false;
    at[count++] = uint16_t(words);
    return true;
  }
};

// In order. Sets how many slots they take; false: there are too many.
bool fill_slots(Distances& words, Layout& layout, uint32_t& used) {
  used = (words.count + kWordsPerSlot - 1) / kWordsPerSlot;
  if (layout.all + used > kMostSlots) return false;
  for (uint32_t i = words.count; i < used * kWordsPerSlot; i++) words.at[i] = words.at[words.count - 1];
  memcpy(layout.slots + layout.all, words.at, used * sizeof(uint64_t));   // the first one lowest: see make_slot
  layout.all += used;
  return true;
}

}  // namespace

bool lay_out(const Caller& caller, Layout& layout) {
  const Path* path = base::thread_state.path;
  if (!path || !path->count || path->sp(path->count - 1) != caller.sp) return false;
  Distances returns, chained, values;
  for (uint32_t i = path->count - 1; i--;) {
    const auto& [led, pc] = path->returned(i);
    if (TIDEMARK_LIKELY(!(pc & kLookCloser))) {
      if (!returns.add(led, caller.sp)) return false;
      continue;
    }
    address saved = path->frame(i).needs_rbp ? path->rbp_saved(i + 1) : 0, cfa_at = path->cfa_at(i + 1);
    bool in_chain = saved && saved == led - 8;
    if (!(in_chain ? chained : returns).add(led, caller.sp)) return false;
    if (saved && !in_chain && !values.add(saved, caller.sp)) return false;
    if (cfa_at && !values.add(cfa_at, caller.sp)) return false;
  }
  if (path->end_at && !returns.add(path->end_at, caller.sp)) return false;
  std::sort(values.at, values.at + values.count);
  layout.rbp = path->frame(path->count - 1).needs_rbp;
  layout.all = 0;
  uint32_t n[3];
  if (!fill_slots(returns, layout, n[0]) || !fill_slots(chained, layout, n[1]) || !fill_slots(values, layout, n[2])) return false;
  layout.counts = counts_of(n[0], n[1], n[2]);
  return true;
}

}  // namespace tidemark::stacks
