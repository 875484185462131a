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
// Another one: a frame pointer's frame whose size changes from call to call (alloca, arrays of variable length). Its node says how it is stepped over
// instead of how large it is, or each size would make a call stack of its own.
inline constexpr Rule kSizeVaries = 16;

// Beside kRuleGuess: no call instruction ends there, in a module. What begins coroutines is such; return addresses that were pushed are, too.
inline constexpr Rule kMayBegin = 32;
inline constexpr Rule kFlags = kUncalled | kSizeVaries | kMayBegin;

struct alignas(16) RuleEntry {   // none lies in two lines
  std::atomic<uint64_t> pc_and_low;   // pc (48 bits) | low 16 bits of the rule << 48; 0: free
  std::atomic<uint32_t> offset;       // of the rule, 16 bits | sizes seen, see note_size
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
// no module and was not called: kRuleGuess | kUncalled, or kRuleHard | kUncalled where nothing can be read, or it is data: on the thread's stack, in the heap.
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

// The rule of a plain frame, of fewer than kPlainWords words and with rbp saved in it, if at all: its CFA is rsp + n, or rbp + 16, where it has a frame
// pointer.
//   its size in words, 8 bits | rbp is saved so many words below the CFA, 5 bits | flags; 0: the frame is not plain
inline constexpr uint32_t kPlain = 0x8000, kPlainByRbp = 0x4000, kPlainWords = 256;
inline uint32_t plain_rule(Rule r) {
  if (is_frame_pointer_rule(r)) return kPlain | kPlainByRbp | 2 << 8;
  uint64_t words = r >> 48;
  int below = -int8_t(r >> 8);
  if ((r & 0xff) != format::kRuleRsp || words - 1 >= kPlainWords - 1 || below < 0 || uint64_t(below) > words || below > 31) return 0;
  return uint32_t(kPlain | unsigned(below) << 8 | words);
}
inline Rule whole_rule(uint32_t plain) {
  if (plain & kPlainByRbp) return format::kRuleRbp | 0xfe00 | Rule{2} << 48;
  return format::kRuleRsp | Rule{uint8_t(-int(plain >> 8 & 31))} << 8 | Rule{plain & 0xff} << 48;
}

// Plain rules that were asked for of late, process-wide: pc | rule << 48. A compiler's 5000 pcs are spread over as many lines of the table of rules,
// and of each the other three entries are of no use; 97 of 100 frames are found here, eight to a line.
inline constexpr uint32_t kRecentRules = 4096;
TIDEMARK_OWN std::atomic<uint64_t> recent_rules[kRecentRules];
TIDEMARK_INLINE std::atomic<uint64_t>& recent_rule_at(address pc) { return recent_rules[pc * 0x9E3779B97F4A7C15ull >> 40 & (kRecentRules - 1)]; }
// 0: not there.
TIDEMARK_INLINE uint32_t recent_rule(address pc) {
  uint64_t e = recent_rule_at(pc).load(std::memory_order_relaxed);
  return TIDEMARK_LIKELY(!((e ^ pc) << 16)) ? uint32_t(e >> 48) : 0;
}
// Of a pc whose rule was just found. Should its module go at this moment, or its size turn out to vary, either drop_rules and note_size see what is noted
// here, or this sees what they did.
inline void remember_rule(address pc, uint32_t plain) {
  recent_rule_at(pc).exchange((pc & format::kPcMask) | uint64_t{plain} << 48);
  const RuleEntry* e = find_rule(pc);
  if (!e || plain_rule(rule_in(*e)) != plain) recent_rule_at(pc).store(0, std::memory_order_relaxed);
}

// A frame pointer's frame of this pc has so many words, in a stack never seen before. After a few different sizes its rule becomes one that kSizeVaries.
// What is known by then (nodes, paths, joins) goes on with the size: a stack may be two records for a while, of the same frames.
void note_size(address pc, uint64_t words);

bool start_rules();                                // the first table; false: no memory
void drop_rules(address start, address end);       // of an unloaded module
bool has_rules(address start, address end);        // any for a pc in (start, end]
// Quickly, of a pc in (start, end]. No: there are no rules that were not read from unwind data, as of generated code; none that were read off the code itself; no code that is
// in no module was ever called there.
bool may_have_guess_rules(address start, address end);
bool may_have_code_rules(address start, address end);
bool may_have_had_generated_code(address start, address end);
void lock_rules();                                 // around fork
void unlock_rules();
void reset_rules_lock();

}  // namespace tidemark::stacks
