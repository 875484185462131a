#include "preload/stacks/rules.h"

#include <cstring>

#include "preload/base/memory.h"
#include "preload/base/ranges.h"
#include "preload/base/spin_lock.h"
#include "preload/base/thread_state.h"
#include "preload/stacks/module_reading.h"
#include "preload/stacks/modules.h"
#include "preload/stacks/parts.h"

namespace tidemark::stacks {
using namespace format;

constinit std::atomic<RuleTable*> rule_table{nullptr};
alignas(64) constinit std::atomic<uint64_t> recent_rules[kRecentRules]{};

namespace {
constexpr uint32_t kFirstSize = 256;
constexpr uint64_t kTombstone = kPcMask;   // no pc: keeps a chain together after its entry was dropped
constinit base::SpinLock rules_lock;
constinit uint32_t used = 0;
constexpr Rule kTrampolineWords = Rule{2} << 48;
constinit PartCounts guess_rules, code_rules;   // where there are rules that were not read from unwind data; of these, that were read off the code
constinit Parts generated_code;                 // where code that is in no module was called, whatever is there by now

void count_guess(address pc, Rule rule, int32_t n) {
  if (kind_of(rule) != kRuleGuess) return;
  guess_rules.add(pc, n);
  if (rule >> 48) code_rules.add(pc, n);
}

RuleTable* new_table(uint64_t size) {
  auto* t = static_cast<RuleTable*>(base::small_table(sizeof(RuleTable) + size * sizeof(RuleEntry)));
  if (t) t->mask = (size - 1) * sizeof(RuleEntry);
  return t;
}

// In the place of a dropped rule if there is one on the way, so that modules that come and go do not fill the table. A reader of
// the old rule cannot be there any more: its stack would hold a pc of a module that is gone.
void put(RuleTable* t, uint64_t word, uint32_t offset, uint32_t joins) {
  uint64_t i = t->home(word & kPcMask), w;
  while ((w = t->at(i).pc_and_low.load(std::memory_order_relaxed)) && w != kTombstone) i = t->after(i);
  if (!w) used++;
  RuleEntry& e = t->at(i);
  e.offset.store(offset, std::memory_order_relaxed);
  e.joins.store(joins, std::memory_order_relaxed);
  e.pc_and_low.store(word, std::memory_order_release);
}

bool grow() {
  RuleTable* old = rule_table.load(std::memory_order_relaxed);
  RuleTable* t = new_table(old->size() * 2);
  if (!t) return false;
  used = 0;
  for (uint64_t i = 0; i < old->size(); i++) {
    const RuleEntry& e = old->entries[i];
    uint64_t w = e.pc_and_low.load(std::memory_order_relaxed);
    if (w && w != kTombstone) put(t, w, e.offset.load(std::memory_order_relaxed), e.joins.load(std::memory_order_relaxed));
  }
  rule_table.store(t, std::memory_order_release);   // the old one is not discarded: who has found an entry reads its rule later
  return true;
}

}  // namespace

bool start_rules() {
  if (rule_table.load()) return true;
  rule_table.store(new_table(kFirstSize));
  return rule_table.load();
}

static bool readable(address a) { return base::readable(reinterpret_cast<const void*>(a & ~address{7})); }

// Whether a call instruction ends at pc: e8 with 4 bytes of displacement, or ff /2 with whatever its operand takes. Only a frame that
// was called is sure to lie within its stack: hand-made coroutines begin at an address that nobody called from, and where unwind data is
// wrong, any word of the stack may be taken for a pc.
static bool follows_call(address pc, ModuleReading* reading) {
  constexpr size_t kLongest = 7;
  uint8_t code[kLongest];   // the last of it as far as it can be read
  auto copy = [&](address from, size_t bytes) {
    const auto* source = reinterpret_cast<const uint8_t*>(from);
    uint8_t* to = code + kLongest - (pc - from);
    return reading ? reading->copy(to, source, bytes) : base::copy_if_readable(to, source, bytes);
  };
  size_t known = ((pc - 1) & 4095) + 1;   // on its page
  if (known > kLongest) known = kLongest;
  if (!copy(pc - known, known)) return false;
  if (known < kLongest && copy(pc - kLongest, kLongest - known)) known = kLongest;
  auto at = [&code](size_t back) { return code[kLongest - back]; };
  constexpr uint8_t kBreakpoint = 0xcc;   // instead of the instruction's first byte; a row of them is what linkers put between functions
  auto is = [&](size_t back, uint8_t byte) { return at(back) == byte || (at(back) == kBreakpoint && at(back - 1) != kBreakpoint); };
  if (known >= 5 && is(5, 0xe8)) return true;
  for (size_t back = 2; back <= known; back++)
    if (is(back, 0xff) && (at(back - 1) >> 3 & 7) == 2) return true;
  return false;
}

// CPython 3.12 and 3.13 with -X perf call each Python function through generated code, the same for all (Python/asm_trampoline.S): sub $8,
// %rsp; call *%rcx; add $8, %rsp; ret. No frame pointer leads over it.
static bool is_cpython_trampoline(address pc) {
  static constexpr uint8_t kAfterCall[] = {0xff, 0xd1, 0x48, 0x83, 0xc4, 0x08, 0xc3};
  uint8_t code[sizeof(kAfterCall)];
  return base::copy_if_readable(code, reinterpret_cast<const void*>(pc - 2), sizeof(code)) && memcmp(code, kAfterCall, sizeof(code)) == 0;
}

// What looks like a return address and is none: rbp led astray, for code that keeps no frame pointer may have anything there. Were such words taken for
// generated code, each would make a call stack of its own.
static bool in_heap(address a) { return base::owner_of(reinterpret_cast<const void*>(a)) != base::Owner::kNobody; }

static bool steps(Rule rule) { return kind_of(rule) == kRuleRsp || kind_of(rule) == kRuleRbp || kind_of(rule) == kRuleDeref; }
// Of an address that is returned to and that nobody called from. A hand-made coroutine begins at the start of a function, and ends the stack. Within one it was
// pushed, by hand-written code, and unwind data says how to go on; if that leads to where somebody called from (walk.cpp), for a coroutine may begin there, too.
static Rule pushed_rule(address pc, const dl_find_object& object, ModuleReading& reading) {
  Rule rule = parse_pushed_rule(pc, object, reading);
  return steps(rule) ? rule : Rule{kRuleEnd};
}

// Of what is in a module. False: it could not be read, for it was just being closed.
static bool read_module_rule(address pc, bool returned_to, const dl_find_object& object, Rule& rule) {
  ModuleReading reading;
  rule = parse_rule(pc, object, reading);
  if (returned_to && !follows_call(pc, &reading)) {
    if (steps(rule)) rule = pushed_rule(pc, object, reading) | kUncalled;
    if (rule == kRuleGuess) rule |= kMayBegin;
  }
  return !reading.was_disturbed();
}

// Of what is in none. False: it is not kept.
static bool guess_rule(address pc, bool returned_to, Rule& rule) {
  rule = kRuleHard | kUncalled;
  if (returned_to && (base::thread_state.owns(pc) || !readable(pc))) return false;   // what a hand-made stack ends in is asked for each time
  const bool called = !returned_to || follows_call(pc, nullptr);
  if (!called && in_heap(pc)) return false;
  generated_code.note(pc);
  rule = kRuleGuess | (!called ? kUncalled : is_cpython_trampoline(pc) ? kTrampolineWords : 0);
  return called;
}

TIDEMARK_COLD Rule add_rule(address pc, bool returned_to) {
  dl_find_object object;
  Rule rule;
  // Before the rule can be used in a node, the module it came from is in the region: whatever a stack names can be resolved.
  bool in_module = _dl_find_object(reinterpret_cast<void*>(pc - 1), &object) == 0;
  if (in_module) note_module(object);
  if (!(in_module ? read_module_rule(pc, returned_to, object, rule) : guess_rule(pc, returned_to, rule))) return rule;
  base::SpinGuard guard(rules_lock);
  RuleTable* t = rule_table.load(std::memory_order_relaxed);
  if (find_rule(pc)) return rule;
  if (used * 2 >= t->size()) {
    if (!grow()) return used + 1 < t->size() ? rule : Rule{kRuleHard};   // no memory: works on, uncached
    t = rule_table.load(std::memory_order_relaxed);
  }
  put(t, (pc & kPcMask) | rule << 48, uint32_t(rule >> 48), 0);
  count_guess(pc, rule, 1);
  return rule;
}

// What note_size knows of a pc, in the upper half of RuleEntry::offset: the last size, its lower 13 bits | how many times it was another one << 13.
static constexpr uint32_t kSizeBits = 13, kMostSizes = 7;

// Without the lock: a table that is being outgrown may not tell the next one, then the next sizes do.
static void let_size_vary(RuleEntry& e, address pc) {
  uint64_t w = e.pc_and_low.load(std::memory_order_relaxed);
  if ((w ^ pc) << 16 || !is_frame_pointer_rule(rule_in(e)) || !e.pc_and_low.compare_exchange_strong(w, w | kSizeVaries << 48)) return;
  std::atomic_thread_fence(std::memory_order_seq_cst);   // see remember_rule
  if (recent_rule(pc)) recent_rule_at(pc).store(0, std::memory_order_relaxed);
}

void note_size(address pc, uint64_t words) {
  RuleEntry* e = find_rule(pc);
  if (!e) return;
  uint32_t offset = e->offset.load(std::memory_order_relaxed), times = offset >> 16 >> kSizeBits, size = uint32_t(words) & ((1 << kSizeBits) - 1);
  if (times && (offset >> 16 & ((1 << kSizeBits) - 1)) == size) return;
  if (times == kMostSizes) return let_size_vary(*e, pc);
  e->offset.compare_exchange_strong(offset, (offset & 0xffff) | ((times + 1) << kSizeBits | size) << 16);
}

bool has_rules(address start, address end) {
  RuleTable* t = rule_table.load(std::memory_order_acquire);
  for (uint64_t i = 0; i < t->size(); i++) {
    address pc = t->entries[i].pc_and_low.load(std::memory_order_relaxed) & kPcMask;
    if (pc > start && pc <= end) return true;
  }
  return false;
}

// A return address may be the first one behind the code.
bool may_have_guess_rules(address start, address end) { return guess_rules.any(start + 1, end + 1); }
bool may_have_code_rules(address start, address end) { return code_rules.any(start + 1, end + 1); }
bool may_have_had_generated_code(address start, address end) { return generated_code.may_have(start + 1, end + 1); }

// What was dropped and ends its chain is free again: a reader that comes there has passed all that could follow. So modules that come and go at ever new
// addresses do not fill the table either.
static void free_ends_of_chains(RuleTable* t) {
  auto word = [t](uint64_t i) -> std::atomic<uint64_t>& { return t->entries[i & (t->size() - 1)].pc_and_low; };
  for (uint64_t i = t->size() + 1; i-- > 0;) {   // the last one follows the first of all
    if (word(i).load(std::memory_order_relaxed) != kTombstone || word(i + 1).load(std::memory_order_relaxed)) continue;
    word(i).store(0, std::memory_order_release);
    used--;
  }
}

void drop_rules(address start, address end) {
  forget_readable_pages(0, ~address{0});
  base::SpinGuard guard(rules_lock);
  RuleTable* t = rule_table.load(std::memory_order_relaxed);
  for (uint64_t i = 0; i < t->size(); i++) {
    const uint64_t w = t->entries[i].pc_and_low.load(std::memory_order_relaxed);
    const address pc = w & kPcMask;
    if (pc <= start || pc > end) continue;
    count_guess(pc, w >> 48 | uint64_t{t->entries[i].offset.load(std::memory_order_relaxed)} << 48, -1);
    t->entries[i].pc_and_low.store(kTombstone, std::memory_order_release);
  }
  free_ends_of_chains(t);
  std::atomic_thread_fence(std::memory_order_seq_cst);   // see remember_rule
  for (auto& recent : recent_rules) {
    address pc = recent.load(std::memory_order_relaxed) & kPcMask;
    if (pc > start && pc <= end) recent.store(0, std::memory_order_relaxed);
  }
}

void lock_rules() { rules_lock.lock(); }
void unlock_rules() { rules_lock.unlock(); }
void reset_rules_lock() { rules_lock.reset(); }

}  // namespace tidemark::stacks
