#include "preload/stacks/step.h"

namespace tidemark::stacks {

__attribute__((noinline)) bool WordReader::read_elsewhere(address& word, address a) const {
  if (away_ || !may_read(a, sp_)) return base::copy_if_readable(&word, reinterpret_cast<const void*>(a), sizeof(word));
  word = base::load(a);
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
