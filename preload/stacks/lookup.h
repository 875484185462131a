// From a hook's caller to the StackRecord of the present call stack: first level, cache, walk. In two halves, so that what the
// first one prefetches arrives while jemalloc works.
#pragma once
#include "preload/stacks/cache.h"
#include "preload/stacks/frame_tree.h"

namespace tidemark::stacks {

struct Lookup {
  address pc, sp, rbp;
  uint64_t place;
  FirstLevel* level;
  std::atomic<uint64_t>* first;
};

TIDEMARK_INLINE Lookup begin_lookup(const Caller& caller) {
  Lookup k{caller.pc, caller.sp, caller.rbp, place_key(caller.pc, caller.sp), first_level.load(std::memory_order_acquire), nullptr};
  k.first = &k.level->place(k.place);
  return k;
}

// Second level and walk; kNoNode: no room.
uint32_t find_leaf(Lookup& k);

// Compares with libunwind, one call in `check_every` (0: never).
TIDEMARK_OWN uint32_t check_every;
void check_stack(uint32_t leaf, address pc);
void set_checker(int (*backtrace)(void** pcs, int max), uint32_t every);

TIDEMARK_INLINE uint32_t find_stack(Lookup& k) {
  uint64_t entry = k.first->load(std::memory_order_relaxed);
  uint32_t leaf = uint32_t(entry);
  Difference at;
  if (!(uint32_t(entry >> 32) == uint32_t(k.place >> 16) && leaf && prove(leaf, k.pc, k.sp, &k.rbp, at))) {
    leaf = find_leaf(k);
    if (TIDEMARK_UNLIKELY(leaf == kNoNode)) return base::header().overflow_stack;
  }
  if (TIDEMARK_UNLIKELY(check_every != 0)) check_stack(leaf, k.pc);
  return stack_of(leaf);
}

}  // namespace tidemark::stacks
