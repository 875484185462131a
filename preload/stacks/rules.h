// The rule of every pc that was ever seen in a stack, process-wide. Look-ups take no lock; an entry is added under one.
// A table that has been outgrown is left to readers that linger in it.
#pragma once
#include <atomic>

#include "preload/base/common.h"
#include "preload/stacks/cfi.h"

namespace tidemark::stacks {

inline constexpr uint16_t kOdd = 0x8000;   // in the hot word's size field: not a plain CFA = rsp + n frame

// A flag beside the rule's kind: no call instruction ends at this pc, so the frame that seems to have been called from here may have wrong
// unwind data.
inline constexpr Rule kUncalled = 8;

// The hot word: pc (48 bits) | frame size in words, or kOdd (16 bits); the whole rule beside it.
struct RuleTable {
  uint32_t mask, pad;
  std::atomic<uint64_t> words[];
  uint32_t* sides() { return reinterpret_cast<uint32_t*>(words + mask + 1); }   // offset << 16 | low 16 bits of the rule
};
TIDEMARK_OWN std::atomic<RuleTable*> rule_table;

// Parses, stores, returns it; kRuleHard when there is no memory for tables. Not stored, for there may be any number of them: what is in
// no module and was not called: kRuleGuess | kUncalled, or kRuleHard | kUncalled where nothing can be read.
Rule add_rule(address pc, bool returned_to);

// pc is not 0. returned_to: a return address (of an interrupted instruction, `pc` is one more than it: no return address is).
TIDEMARK_INLINE Rule rule_of(address pc, bool returned_to = true) {
  RuleTable* t = rule_table.load(std::memory_order_acquire);
  for (uint32_t i = uint32_t(base::mix(pc)) & t->mask;; i = (i + 1) & t->mask) {
    uint64_t w = t->words[i].load(std::memory_order_acquire);
    if (!((w ^ pc) << 16)) {
      uint32_t side = t->sides()[i];
      return uint64_t(side >> 16) << 48 | (side & 0xffff);
    }
    if (!w) return add_rule(pc, returned_to);
  }
}

bool start_rules();                                // the first table; false: no memory
void drop_rules(address start, address end);       // of an unloaded module
bool has_rules(address start, address end);        // any for a pc in (start, end]
void lock_rules();                                 // around fork
void unlock_rules();
void reset_rules_lock();

}  // namespace tidemark::stacks
