#include "preload/stacks/step.h"

namespace tidemark::stacks {

__attribute__((noinline)) bool WordReader::read_elsewhere(address* words, address a, uint32_t count) const {
  constexpr address kFar = 64 << 10;   // mostly less: from one frame to the next of another stack
  const address last = a + (count - 1) * sizeof(address);
  bool is_there = !away_ && (a - sp_ < kFar || is_on_own_stack(a)) && may_read(a, sp_) && (!((a ^ (last + 7)) >> 12) || may_read(last, sp_));
  if (!is_there) return base::copy_if_readable(words, reinterpret_cast<const void*>(a), count * sizeof(address));
  for (uint32_t i = 0; i < count; i++) words[i] = base::load(a + i * sizeof(address));
  return true;
}

// Frames that are away have nodes of their own (walk.cpp). Others may be their callers' nodes, too, but were put there from elsewhere.
TIDEMARK_COLD Proof prove_away(const format::Node*& n, Registers& regs, Difference& at) {
  Proof proof = Proof::kGoesOn;
  for (bool away = true; away && proof == Proof::kGoesOn;) {
    n = base::line<format::Node>(n->caller);
    if (!(n->rule & 0xff)) return at = {regs.sp, 0}, Proof::kDiffers;
    proof = prove_frame(*n, regs, away, at);
  }
  return proof;
}

}  // namespace tidemark::stacks
