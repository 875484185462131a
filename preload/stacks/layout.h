// The layout of a stack that has been walked: see fingerprint.h.
#pragma once
#include "preload/base/common.h"
#include "preload/stacks/places.h"

namespace tidemark::stacks {

struct Layout {
  uint64_t slots[kMostSlots];
  uint32_t all;      // slots
  uint64_t counts;   // of each kind: see counts_of
  bool rbp;   // the caller's rbp, which is in no place of the stack, is one of the values
};

// Of the present stack, which is the thread's path. False: that is not known up to the caller, or there are too many words.
bool lay_out(const Caller& caller, Layout& layout);

}  // namespace tidemark::stacks
