// From a hook's caller to the StackRecord of the present call stack: first level, cache, walk. In two halves, so that what the
// first one prefetches arrives while jemalloc works.
#pragma once
#include "preload/stacks/cache.h"
#include "preload/stacks/frame_tree.h"

namespace tidemark::stacks {

struct Lookup {
  address pc, sp, rbp;
  uint64_t place;
  Place* first;
};

TIDEMARK_INLINE Lookup begin_lookup(const Caller& caller) {
  uint64_t place = place_key(caller.pc, caller.sp);
  return {caller.pc, caller.sp, caller.rbp, place, &first_level.load(std::memory_order_acquire)->at(place)};
}

// Second level and walk; kNoNode: no room.
uint32_t find_leaf(Lookup& k);

// Compares with libunwind, one call in `check_every` (0: never).
TIDEMARK_OWN uint32_t check_every;
void check_stack(uint32_t leaf, address pc);
void set_checker(int (*backtrace)(void** pcs, int max), uint32_t every);

// The leaf alone; kNoNode: no room.
TIDEMARK_INLINE uint32_t find_leaf_of(Lookup& k) {
  uint64_t entry = k.first->leaves.load(std::memory_order_relaxed);
  uint32_t leaf = uint32_t(entry & 0xffffff);
  Difference at;
  if (!(entry >> 48 == mark_of(k.place) && leaf && prove(leaf, k.pc, k.sp, &k.rbp, at))) {
    leaf = find_leaf(k);
    if (TIDEMARK_UNLIKELY(leaf == kNoNode)) return kNoNode;
  }
  if (TIDEMARK_UNLIKELY(check_every != 0)) check_stack(leaf, k.pc);
  return leaf;
}

TIDEMARK_INLINE uint32_t find_stack(Lookup& k) {
  uint32_t leaf = find_leaf_of(k);
  return TIDEMARK_LIKELY(leaf != kNoNode) ? stack_of(leaf) : base::header().overflow_stack;
}

}  // namespace tidemark::stacks
