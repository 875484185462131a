// The rule of every pc that was ever seen in a stack, process-wide. Look-ups take no lock; an entry is added under one.
// A table that has been outgrown is left to readers that linger in it.
#pragma once
#include <atomic>

#include "preload/base/common.h"
#include "preload/stacks/cfi.h"

namespace tidemark::stacks {

// A flag beside the rule's kind: no call instruction ends at this pc, so the frame that seems to have been called from here may have wrong
// unwind data.
inline constexpr Rule kUncalled = 8;

struct alignas(16) RuleEntry {   // none lies in two lines
  std::atomic<uint64_t> pc_and_low;   // pc (48 bits) | low 16 bits of the rule << 48; 0: free
  std::atomic<uint32_t> offset;       // of the rule
  std::atomic<uint32_t> joins;        // a Bloom filter of the stack pointers where this pc is in the join cache: see walk.cpp
};
struct RuleTable {
  uint64_t mask;   // entries - 1, in bytes
  RuleEntry entries[];
  uint64_t size() const { return mask / sizeof(RuleEntry) + 1; }
  // In bytes, for each frame of a walk waits for the one before. Of what is multiplied, every bit reaches these, but for the highest.
  uint64_t home(address pc) const { return pc * 0x9E3779B97F4A7C15ull >> 28 & mask; }
  uint64_t after(uint64_t at) const { return (at + sizeof(RuleEntry)) & mask; }
  RuleEntry& at(uint64_t bytes) { return *reinterpret_cast<RuleEntry*>(reinterpret_cast<address>(entries) + bytes); }
};
TIDEMARK_OWN std::atomic<RuleTable*> rule_table;

// Parses, stores, returns it; kRuleHard when there is no memory for tables. Not stored, for there may be any number of them: what is in
// no module and was not called: kRuleGuess | kUncalled, or kRuleHard | kUncalled where nothing can be read.
Rule add_rule(address pc, bool returned_to);

// nullptr: not known yet, or not stored.
TIDEMARK_INLINE RuleEntry* find_rule(address pc) {
  RuleTable* t = rule_table.load(std::memory_order_acquire);
  for (uint64_t i = t->home(pc);; i = t->after(i)) {
    RuleEntry& e = t->at(i);
    uint64_t w = e.pc_and_low.load(std::memory_order_acquire);
    if (TIDEMARK_LIKELY(!((w ^ pc) << 16))) return &e;
    if (!w) return nullptr;
  }
}
inline Rule rule_in(const RuleEntry& e) {
  return e.pc_and_low.load(std::memory_order_relaxed) >> 48 | uint64_t{e.offset.load(std::memory_order_relaxed)} << 48;
}

// pc is not 0. returned_to: a return address (of an interrupted instruction, `pc` is one more than it: no return address is).
TIDEMARK_INLINE Rule rule_of(address pc, bool returned_to = true) {
  const RuleEntry* e = find_rule(pc);
  return TIDEMARK_LIKELY(e != nullptr) ? rule_in(*e) : add_rule(pc, returned_to);
}

bool start_rules();                                // the first table; false: no memory
void drop_rules(address start, address end);       // of an unloaded module
bool has_rules(address start, address end);        // any for a pc in (start, end]
void lock_rules();                                 // around fork
void unlock_rules();
void reset_rules_lock();

}  // namespace tidemark::stacks
