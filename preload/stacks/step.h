// One frame outwards, and the proof that a known path is the present stack. Both read the live stack only.
#pragma once
#include <ucontext.h>

#include "preload/base/memory.h"
#include "preload/base/store.h"
#include "preload/base/thread_state.h"
#include "preload/stacks/cfi.h"

namespace tidemark::stacks {

// Where no code can be: the first page is never mapped (vm.mmap_min_addr). A stack that was entered by hand ends at such a word: mostly 0, under greenlets 1.
inline bool is_no_code(address pc) { return pc < format::kPageBytes; }

// Whether the word at `a` is the stack's. The word below `sp` was (it is the return address that led there), hence its whole page can be read, and
// what lies between `sp` and the top of the thread's own stack.
inline bool is_stacks(address a, address sp) {
  if (TIDEMARK_LIKELY(!(((a ^ (sp - 8)) | ((a + 7) ^ (sp - 8))) >> 12))) return true;
  const base::ThreadState& t = base::thread_state;
  return TIDEMARK_LIKELY(a >= sp && sp >= t.stack_low && a < t.stack_top && t.stack_top - a >= 8);   // a + 8 may be 0
}
// Whether it can be read: of any other page the kernel is asked, for where a coroutine's or an alternate stack ends nobody tells.
inline bool may_read(address a, address sp) { return is_stacks(a, sp) || base::readable(reinterpret_cast<const void*>(a)); }

// Reads what may be no stack at all: rbp may point to anything there, which another thread may unmap meanwhile.
inline bool read_words(address (&words)[2], address a, address sp) {
  if (!is_stacks(a, sp) || !is_stacks(a + 8, sp)) return base::copy_if_readable(words, reinterpret_cast<const void*>(a), sizeof(words));
  words[0] = base::load(a), words[1] = base::load(a + 8);
  return true;
}

// A frame without unwind data: its rbp, if it looks like a frame pointer, leads on.
inline bool step_by_frame_pointer(address& pc, address& sp, address& rbp) {
  address words[2];
  if (rbp < sp || (rbp & 7) || rbp - sp > (1 << 20) || !read_words(words, rbp, sp)) return false;
  sp = rbp + 16;
  rbp = words[0];
  pc = words[1];
  return !is_no_code(pc);
}

// One whose size is known from its code.
inline bool step_by_size(int64_t bytes, address& pc, address& sp) {
  if (!may_read(sp + address(bytes) - 8, sp)) return false;
  sp += address(bytes);
  pc = base::load(sp - 8);
  return true;
}

inline address rsp_offset(Rule rule) { return (rule >> 48) * 8; }

// Over a frame whose start is known.
TIDEMARK_INLINE void step_to(address cfa, Rule rule, address& pc, address& sp, address& rbp) {
  if (int8_t save = int8_t(rule >> 8)) rbp = base::load(save == kRbpAtRbp ? rbp : cfa + address(int64_t{8} * save));
  pc = base::load(cfa - 8);
  sp = cfa;
}

// false: the stack ends here. After a signal trampoline (`signal`), pc is the interrupted instruction, not a return address.
TIDEMARK_INLINE bool step(Rule rule, address& pc, address& sp, address& rbp, bool& signal) {
  int64_t offset = (int64_t(rule) >> 48) * 8;
  address cfa;
  signal = false;
  if (TIDEMARK_LIKELY(kind_of(rule) == format::kRuleRsp)) {
    cfa = sp + rsp_offset(rule);
  } else {
    switch (kind_of(rule)) {
      case format::kRuleRbp: cfa = rbp + address(offset); break;
      case format::kRuleDeref: cfa = base::load(rbp + address(offset)); break;
      case format::kRuleGuess: return offset ? step_by_size(offset, pc, sp) : step_by_frame_pointer(pc, sp, rbp);
      case format::kRuleSignal: {
        const auto* registers = reinterpret_cast<const ucontext_t*>(sp)->uc_mcontext.gregs;
        pc = address(registers[REG_RIP]);
        rbp = address(registers[REG_RBP]);
        sp = address(registers[REG_RSP]);
        signal = true;
        return true;
      }
      default: return false;
    }
  }
  step_to(cfa, rule, pc, sp, rbp);
  return true;
}

// The same for a frame that may never have been proved: refuses what would leave the stack, so that wrong unwind data cannot
// make us read unmapped memory. What was checked is what is used: wrong data may lead to words of our own frames, which change meanwhile.
TIDEMARK_INLINE bool step_checked(Rule rule, address& pc, address& sp, address& rbp, bool& signal) {
  int64_t offset = (int64_t(rule) >> 48) * 8;
  address cfa = 0;
  switch (kind_of(rule)) {
    case format::kRuleRsp: cfa = sp + rsp_offset(rule); break;
    case format::kRuleRbp: cfa = rbp + address(offset); break;
    case format::kRuleDeref:
      if (!may_read(rbp + address(offset), sp)) return false;
      cfa = base::load(rbp + address(offset));
      break;
    case format::kRuleSignal:
      if (!may_read(sp + sizeof(ucontext_t) - 8, sp)) return false;
      return step(rule, pc, sp, rbp, signal) && base::readable(reinterpret_cast<const void*>(sp - 8));
    default: return step(rule, pc, sp, rbp, signal);
  }
  if (cfa <= sp || !may_read(cfa - 8, sp)) return false;
  if (int8_t save = int8_t(rule >> 8))
    if (!may_read(save == kRbpAtRbp ? rbp : cfa + address(int64_t{8} * save), sp)) return false;
  signal = false;
  step_to(cfa, rule, pc, sp, rbp);
  return true;
}

// The same for a group's frames: whether their words, from `sp` on, can be read.
inline bool may_read_each(const format::Node& n, address sp) {
  for (uint64_t word : n.words) {
    address next = sp + (word >> 48) * 8;
    if (next > sp && !may_read(next - 8, sp)) return false;
    sp = next;
  }
  return true;
}
TIDEMARK_INLINE bool may_read_group(const format::Node& n, address sp) {
  const base::ThreadState& t = base::thread_state;
  address end = sp;
  for (uint64_t word : n.words) end += (word >> 48) * 8;
  return (sp >= t.stack_low && end <= t.stack_top) || may_read_each(n, sp);
}

struct Difference {
  address sp, pc;   // the first frame that differs: its stack pointer and the pc found there
};

// Does the stack that starts at (pc, sp), with rbp stored at `rbp_at`, equal the path of node `id`? Reads from the inside, stops
// at the first difference. Why an equal answer is certain: a pc has one rule, hence an exact place of its return address; if the
// word there is the pc of the path's next frame, that frame's rule is known too, and so on to the end of the path: a frame whose
// unwind data says so (size 0), or whose return address is_no_code. Where each frame ends is looked at before it is read: unwind data may be wrong
// and yet have led to a call when the path was walked, and what was mapped beside a coroutine's stack then may be gone.
TIDEMARK_INLINE bool prove(uint32_t id, address pc, address sp, const address* rbp_at, Difference& at) {
  using namespace format;
  address rbp;
  for (const Node* n = base::line<Node>(id);;) {
    if (TIDEMARK_UNLIKELY(n->rule != 0)) {
      if (TIDEMARK_UNLIKELY(n->rule & 0xff)) {   // a lone frame: do what its rule says
        if ((n->words[0] ^ pc) << 16) return at = {sp, pc}, false;
        uint32_t caller = n->caller;
        if (caller == kCutNode) return true;
        if (reinterpret_cast<address>(rbp_at) >= sp && !may_read(reinterpret_cast<address>(rbp_at), sp)) return at = {sp, 0}, false;
        address next_pc = pc, next_sp = sp, next_rbp = *rbp_at;   // copies: pc and sp stay in registers
        bool signal, stepped = step_checked((n->words[0] & ~kPcMask) | n->rule, next_pc, next_sp, next_rbp, signal);
        if (!stepped) return at = {sp, 0}, caller == kRootNode && (n->rule & 0xff) == kRuleGuess;
        pc = next_pc, sp = next_sp, rbp = next_rbp;
        if (is_no_code(pc)) return at = {sp, 0}, caller == kRootNode;
        if (caller == kRootNode) return at = {sp, pc}, false;
        rbp_at = &rbp;
        n = base::line<Node>(caller);
        continue;
      }
      if (n->rule & kRuleFramePointerGroup) {   // rbp must agree with each size
        if (!may_read_group(*n, sp)) return at = {sp, 0}, false;
        rbp = *rbp_at;
#pragma GCC unroll 8
        for (uint32_t i = 0; i < kFramesPerNode; i++) {
          if ((n->words[i] ^ pc) << 16) return at = {sp, pc}, false;
          if (uint64_t bytes = (n->words[i] >> 48) * 8) {
            if (rbp + 16 != sp + bytes) return at = {sp, rbp - sp}, false;
            sp += bytes;
            rbp = base::load(sp - 16);
            pc = base::load(sp - 8);
          }
        }
        uint32_t caller = n->caller;
        if (caller <= kCutNode) return caller == kCutNode || is_no_code(pc);
        n = base::line<Node>(caller);
        rbp_at = &rbp;
        continue;
      }
    }
    if (!may_read_group(*n, sp)) return at = {sp, 0}, false;
    if (n->rbp_save) rbp_at = reinterpret_cast<const address*>(sp + address(int64_t{8} * n->rbp_save));
#pragma GCC unroll 8
    for (uint32_t i = 0; i < kFramesPerNode; i++) {
      if (i) sp += (n->words[i - 1] >> 48) * 8, pc = base::load(sp - 8);
      if ((n->words[i] ^ pc) << 16) return at = {sp, pc}, false;
    }
    uint32_t caller = n->caller;
    uint64_t outermost = (n->words[kFramesPerNode - 1] >> 48) * 8;
    if (caller <= kCutNode) return caller == kCutNode || !outermost || is_no_code(base::load(sp + outermost - 8));
    sp += outermost;
    pc = base::load(sp - 8);
    n = base::line<Node>(caller);
  }
}

}  // namespace tidemark::stacks
