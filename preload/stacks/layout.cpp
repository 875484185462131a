#include "preload/stacks/layout.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "preload/base/store.h"
#include "preload/stacks/cfi.h"
#include "preload/stacks/step.h"

namespace tidemark::stacks {
using namespace format;
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

// Goes along the path of a leaf as a proof does (step.h), and notes which words that reads.
class Reader {
 public:
  explicit Reader(const Caller& caller) : start_(caller.sp), sp_(caller.sp), rbp_(caller.rbp) {}

  bool read(uint32_t leaf) {
    for (uint32_t id = leaf; id > kCutNode;) {
      const Node& n = *base::line<Node>(id);
      id = n.caller;
      if (n.rule & 0xff ? !read_lone(n) : !read_group(n)) return false;
      if (ended_) return true;
    }
    return true;
  }

  Words<kMostReturns> returns;
  Words<kMostValues> values;
  bool rbp = false;

 private:
  // What rbp is at this frame. Where it is said to be saved, nothing may be: that is looked at only where a frame's place depends on it.
  bool use_rbp(address& value) {
    if (rbp_at_) {
      if (!values.add(rbp_at_, start_) || !may_read(rbp_at_, sp_)) return false;
      value = base::load(rbp_at_);
    } else {
      rbp = true;
      value = rbp_;
    }
    return true;
  }
  bool leave_frame(address cfa) {
    if (cfa <= sp_ || !may_read(cfa - 8, sp_) || !returns.add(cfa - 8, start_)) return false;
    sp_ = cfa;
    ended_ = !base::load(cfa - 8);
    return true;
  }

  bool read_lone(const Node& n) {
    if (n.caller == kCutNode) return true;   // nothing outside of it counts
    auto offset = address((int64_t(n.words[0]) >> 48) * 8);
    address was = 0, cfa;
    switch (n.rule & 0xff) {
      case kRuleRsp: cfa = sp_ + offset; break;
      case kRuleRbp:
        if (!use_rbp(was)) return false;
        cfa = was + offset;
        break;
      case kRuleDeref:
        if (!use_rbp(was) || !values.add(was + offset, start_) || !may_read(was + offset, sp_)) return false;
        cfa = base::load(was + offset);
        break;
      case kRuleGuess:
        if (offset) return leave_frame(sp_ + offset);
        if (n.caller == kRootNode || !use_rbp(was) || was < sp_) return false;   // where no frame pointer is, anything else may be
        rbp_at_ = was;
        return leave_frame(was + 16);
      default: return false;
    }
    if (!leave_frame(cfa)) return false;
    if (int8_t save = int8_t(n.rule >> 8)) {
      if (save == kRbpAtRbp && !was && !use_rbp(was)) return false;
      rbp_at_ = save == kRbpAtRbp ? was : cfa + address(int64_t{8} * save);
    }
    return true;
  }

  bool read_group(const Node& n) {
    address saved = n.rbp_save ? sp_ + address(int64_t{8} * n.rbp_save) : 0;
    for (uint32_t i = 0; i < kFramesPerNode && !ended_; i++) {
      uint64_t bytes = (n.words[i] >> 48) * 8;
      if (!bytes) continue;
      if (n.caller == kCutNode && i == kFramesPerNode - 1) return true;   // as above
      bool by_rbp = n.rule & kRuleFramePointerGroup;
      address value;
      if ((by_rbp && !use_rbp(value)) || !leave_frame(sp_ + bytes)) return false;
      if (by_rbp) rbp_at_ = sp_ - 16;
    }
    if (saved) rbp_at_ = saved;
    return true;
  }

  address start_, sp_, rbp_, rbp_at_ = 0;   // 0: rbp is still the caller's
  bool ended_ = false;
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

bool lay_out(uint32_t leaf, const Caller& caller, Layout& layout) {
  Reader reader(caller);
  if (!reader.read(leaf)) return false;
  std::sort(reader.values.at, reader.values.at + reader.values.count);
  if (!fill_slots<ReturnSlot, kReturnsPerSlot>(reader.returns, layout.slots, kMostSlots, layout.return_slots)) return false;
  if (!fill_slots<ValueSlot, kValuesPerSlot>(reader.values, layout.slots + layout.return_slots, kMostSlots - layout.return_slots, layout.value_slots))
    return false;
  layout.rbp = reader.rbp;
  return true;
}

}  // namespace tidemark::stacks
