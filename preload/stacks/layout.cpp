#include "preload/stacks/layout.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "preload/stacks/path.h"

namespace tidemark::stacks {
namespace {

constexpr uint32_t kMostReturns = kMostSlots * kReturnsPerSlot, kMostValues = kMostSlots * kValuesPerSlot;

// Words of the stack by their distance from sp, in words.
template <uint32_t kMost>
struct Words {
  uint16_t at[kMost];
  uint32_t count = 0;

  bool add(address word, address sp) {
    if (word < sp || (word - sp) % 8 || (word - sp) / 8 > UINT16_MAX || count == kMost) return false;
    at[count++] = uint16_t((word - sp) / 8);
    return true;
  }
};

// Slots are filled from the start of the words on; false: a step is not ≥ 0, or there are too many slots.
template <class Slot, uint32_t kPerSlot, uint32_t kMost>
bool fill_slots(const Words<kMost>& words, uint64_t* slots, uint32_t room, uint32_t& used) {
  used = 0;
  for (uint32_t i = 0; i < words.count;) {
    if (used == room) return false;
    Slot slot{};
    slot.base = words.at[i++];
    for (uint32_t k = 0; k < kPerSlot - 1 && i < words.count; k++, i++) {
      if (words.at[i] < words.at[i - 1]) return false;
      uint32_t words_between = uint32_t(words.at[i] - words.at[i - 1]), step = words_between / Slot::kUnit;
      if (step > std::numeric_limits<typename Slot::Step>::max() || words_between % Slot::kUnit) break;
      slot.steps[k] = static_cast<typename Slot::Step>(step);
    }
    memcpy(&slots[used++], &slot, sizeof(slot));
  }
  return true;
}

}  // namespace

bool lay_out(const Caller& caller, Layout& layout) {
  const Path* path = base::thread_state.path;
  if (!path || !path->count || path->frames[path->count - 1].sp != caller.sp) return false;
  Words<kMostReturns> returns;
  Words<kMostValues> values;
  for (const Frame* f = path->frames + path->count - 1; f > path->frames; f--) {
    const Frame& outer = f[-1];
    if (!returns.add(outer.sp - 8, caller.sp)) return false;
    if (outer.needs_rbp && f->rbp_at && !values.add(f->rbp_at, caller.sp)) return false;
    if (f->cfa_at && !values.add(f->cfa_at, caller.sp)) return false;
  }
  if (path->end_at && !returns.add(path->end_at, caller.sp)) return false;
  layout.rbp = path->frames[path->count - 1].needs_rbp;
  std::sort(values.at, values.at + values.count);
  return fill_slots<ReturnSlot, kReturnsPerSlot>(returns, layout.slots, kMostSlots, layout.return_slots) &&
         fill_slots<ValueSlot, kValuesPerSlot>(values, layout.slots + layout.return_slots, kMostSlots - layout.return_slots, layout.value_slots);
}

}  // namespace tidemark::stacks
