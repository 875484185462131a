// The layout of a stack that has been walked: see fingerprint.h.
#pragma once
#include "preload/base/common.h"
#include "preload/stacks/places.h"

namespace tidemark::stacks {

inline constexpr uint32_t kMostSlots = kNearSlots + kFarSlots;

struct Layout {
  uint64_t slots[kMostSlots];
  uint32_t return_slots, value_slots;
  bool rbp;   // the caller's rbp, which is in no place of the stack, is one of the values
};

// `leaf`: proved to be the present stack, or just walked. false: its words are not all at fixed places, or there are too many of them.
bool lay_out(uint32_t leaf, const Caller& caller, Layout& layout);

}  // namespace tidemark::stacks
