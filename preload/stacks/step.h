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

// Of a frame: what lies below sp was read, and sp may be the stack's end.
inline bool is_on_own_stack(address sp) { return base::thread_state.owns(sp - 8); }

// Whether it can be read where it is. What lies beside the thread's own stack is none of it, and may be unmapped by other threads at any moment. Of what lies
// further out on another stack, a coroutine's or an alternate one, the kernel is asked, for where these end nobody tells.
inline bool may_read(address a, address sp) {
  if (is_stacks(a, sp)) return true;
  return !is_on_own_stack(sp) && base::readable(reinterpret_cast<const void*>(a));
}

// Whether who went out from a frame at `from` to one at `sp` has left the thread's own stack, mostly led by unwind data that lies. From another stack to the next
// one, as from a signal handler's or where a deep recursion went on elsewhere, is no such step.
inline bool is_away(address sp, address from, bool was_away) { return !is_on_own_stack(sp) && (was_away || is_on_own_stack(from)); }

// How the words further out than a frame at `sp` are read: where they are, or, if the stack they are on is not certain, by the kernel.
class WordReader {
 public:
  WordReader(address sp, bool away) : sp_(sp), away_(away) {}
  bool read(address& word, address a) const {
    if (TIDEMARK_UNLIKELY(away_ || !is_stacks(a, sp_))) return read_elsewhere(&word, a, 1);
    word = base::load(a);
    return true;
  }
  bool read(address (&words)[2], address a) const {
    if (TIDEMARK_UNLIKELY(away_ || !is_stacks(a, sp_) || !is_stacks(a + 8, sp_))) return read_elsewhere(words, a, 2);
    words[0] = base::load(a), words[1] = base::load(a + 8);
    return true;
  }
  // Two words of what may be no stack at all: rbp may point to anything there, also a little further out.
  bool read_two(address (&words)[2], address a) const {
    if (away_ || !is_stacks(a, sp_) || !is_stacks(a + 8, sp_)) return base::copy_if_readable(words, reinterpret_cast<const void*>(a), sizeof(words));
    words[0] = base::load(a), words[1] = base::load(a + 8);
    return true;
  }

 private:
  bool read_elsewhere(address* words, address a, uint32_t count) const;
  address sp_;
  bool away_;
};

// A frame without unwind data: its rbp, if it looks like a frame pointer, leads on.
inline bool step_by_frame_pointer(const WordReader& from, address& pc, address& sp, address& rbp) {
  address words[2];
  if (rbp < sp || (rbp & 7) || rbp - sp > (1 << 20) || !from.read_two(words, rbp)) return false;
  sp = rbp + 16;
  rbp = words[0];
  pc = words[1];
  return !is_no_code(pc);
}

// One whose size is known from its code.
inline bool step_by_size(const WordReader& from, int64_t bytes, address& pc, address& sp) {
  if (!from.read(pc, sp + address(bytes) - 8)) return false;
  sp += address(bytes);
  return true;
}

// After a signal trampoline pc is the interrupted instruction, not a return address.
inline bool step_over_signal(const WordReader& from, address& pc, address& sp, address& rbp) {
  const auto* registers = reinterpret_cast<const ucontext_t*>(sp)->uc_mcontext.gregs;
  auto at = [&](int name) { return reinterpret_cast<address>(&registers[name]); };
  address interrupted, below;
  if (!from.read(pc, at(REG_RIP)) || !from.read(rbp, at(REG_RBP)) || !from.read(interrupted, at(REG_RSP))) return false;
  sp = interrupted;
  return base::copy_if_readable(&below, reinterpret_cast<const void*>(sp - 8), sizeof(below));
}

inline address rsp_offset(Rule rule) { return (rule >> 48) * 8; }

// One frame outwards, wherever it leads: false where that would be memory that is not there, so that wrong unwind data reads nothing else, or where the stack ends.
// `signal`: a signal trampoline was stepped over. `away`: see is_away.
TIDEMARK_INLINE bool step_from(const WordReader& from, Rule rule, address& pc, address& sp, address& rbp, bool& signal) {
  int64_t offset = (int64_t(rule) >> 48) * 8;
  address cfa;
  signal = false;
  switch (kind_of(rule)) {
    case format::kRuleRsp: cfa = sp + rsp_offset(rule); break;
    case format::kRuleRbp: cfa = rbp + address(offset); break;
    case format::kRuleDeref:
      if (!from.read(cfa, rbp + address(offset))) return false;
      break;
    case format::kRuleGuess: return offset ? step_by_size(from, offset, pc, sp) : step_by_frame_pointer(from, pc, sp, rbp);
    case format::kRuleSignal: return signal = step_over_signal(from, pc, sp, rbp);
    default: return false;
  }
  constexpr int8_t kBesidePc = -2;   // mostly: what a function pushes first
  const auto save = int8_t(rule >> 8);
  address words[2] = {rbp, 0};   // the caller's rbp, and where it goes on
  if (cfa <= sp || !(save == kBesidePc ? from.read(words, cfa - 16) : from.read(words[1], cfa - 8))) return false;
  if (save && save != kBesidePc && !from.read(words[0], save == kRbpAtRbp ? rbp : cfa + address(int64_t{8} * save))) return false;
  rbp = words[0], pc = words[1];
  sp = cfa;
  return true;
}
TIDEMARK_INLINE bool step(Rule rule, address& pc, address& sp, address& rbp, bool& signal, bool& away) {
  const address was = sp;
  if (!step_from({sp, away}, rule, pc, sp, rbp, signal)) return false;
  away = is_away(sp, was, away);
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

struct Registers {
  address pc, sp, rbp;
};
enum class Proof : uint8_t { kEqual, kDiffers, kGoesOn };

// Whether a frame that has a node of its own is this one, by what its rule says. kGoesOn: its caller is at `regs` now.
TIDEMARK_INLINE Proof prove_frame(const format::Node& n, Registers& regs, bool& away, Difference& at) {
  using namespace format;
  if ((n.words[0] ^ regs.pc) << 16) return at = {regs.sp, regs.pc}, Proof::kDiffers;
  if (n.caller == kCutNode) return Proof::kEqual;
  bool signal;
  Registers next = regs;
  if (!step((n.words[0] & ~kPcMask) | n.rule, next.pc, next.sp, next.rbp, signal, away)) {
    bool may_end = n.caller == kRootNode && (n.rule & 0xff) == kRuleGuess;
    return at = {regs.sp, 0}, may_end ? Proof::kEqual : Proof::kDiffers;
  }
  regs = next;
  if (is_no_code(regs.pc)) return at = {regs.sp, 0}, n.caller == kRootNode ? Proof::kEqual : Proof::kDiffers;
  if (n.caller == kRootNode) return at = {regs.sp, regs.pc}, Proof::kDiffers;
  return Proof::kGoesOn;
}
// The same of all frames from the caller of `n` on as long as they are away. `n`: the last one that was looked at.
Proof prove_away(const format::Node*& n, Registers& regs, Difference& at);

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
        Registers regs{pc, sp, 0};   // a copy: pc and sp stay in registers
        if (reinterpret_cast<address>(rbp_at) < sp) regs.rbp = *rbp_at;
        else if (!WordReader(sp, false).read(regs.rbp, reinterpret_cast<address>(rbp_at))) return at = {sp, 0}, false;
        bool away = false;
        Proof proof = prove_frame(*n, regs, away, at);
        if (TIDEMARK_UNLIKELY(away) && proof == Proof::kGoesOn) proof = prove_away(n, regs, at);
        if (proof != Proof::kGoesOn) return proof == Proof::kEqual;
        pc = regs.pc, sp = regs.sp, rbp = regs.rbp;
        rbp_at = &rbp;
        n = base::line<Node>(n->caller);
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
