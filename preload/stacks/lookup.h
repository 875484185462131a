// From a hook's caller to the StackRecord of the present call stack: by its place and fingerprint, else by the thread's path; where that cannot serve (a
// coroutine's stack, one that is cut) by proof of a guess, else by a walk.
#pragma once
#include "preload/stacks/cache.h"
#include "preload/stacks/frame_tree.h"
#include "preload/stacks/left_alone.h"
#include "preload/stacks/places.h"

namespace tidemark::stacks {

struct Lookup {
  Caller caller;
  uint64_t key;   // of the place
  Place* home;    // its line, mostly
};

TIDEMARK_INLINE Lookup begin_lookup(const Caller& caller) {
  uint64_t key = place_key(caller.pc, caller.sp);
  Places* all = places.load(std::memory_order_acquire);
  return {caller, key, &all->at(key)};
}

// By proof or walk; kNoNode: no room.
uint32_t find_leaf(const Lookup& k);

// It is not the one it was last at its place.
uint32_t find_stack_in_turn(const Lookup& k, Place& place, uint64_t sum);
// Nor is it known by its fingerprint.
uint32_t find_unknown_stack(const Lookup& k, Place& place);
// The place is not known or not a steady one, or the stack is not the thread's own.
uint32_t find_stack_otherwise(const Lookup& k);

// Its place may be left alone.
uint32_t find_left_alone(const Lookup& k);

// Compares with libunwind, one call in `check_every` (0: never).
TIDEMARK_OWN uint32_t check_every;
void check_stack(uint32_t stack, address pc);
void set_checker(int (*backtrace)(void** pcs, int max), uint32_t every);

TIDEMARK_INLINE uint32_t find_by_place(const Lookup& k) {
  Place* p = k.home;
  uint64_t meta = p->meta.load(std::memory_order_acquire), sum;
  if (TIDEMARK_UNLIKELY(!is_of(meta, k.key))) {
    p = find_away(*p, k.key);
    meta = p ? p->meta.load(std::memory_order_acquire) : 0;
  }
  if (TIDEMARK_UNLIKELY(!is_of(meta, k.key) || !is_steady(*p, meta) || !sum_at(*p, meta, k.key, k.caller, sum))) return find_stack_otherwise(k);
  uint32_t stack = last_stack(*p, meta, sum);
  if (TIDEMARK_UNLIKELY(!stack)) stack = find_stack_in_turn(k, *p, sum);
  if (TIDEMARK_UNLIKELY((meta & (kSlow | kFar)) == kSlow)) settle_way(*p);   // another thread may have changed it back at the wrong moment
  return stack;
}

// Header::overflow_stack when there is no room.
TIDEMARK_INLINE uint32_t find_stack(const Lookup& k) {
  uint32_t stack;
  if (TIDEMARK_UNLIKELY(is_left_alone(k.key))) {
    stack = find_left_alone(k);
  } else {
    stack = find_by_place(k);
    lean_back(base::thread_state);
  }
  if (TIDEMARK_UNLIKELY(check_every != 0)) check_stack(stack, k.caller.pc);
  return stack;
}

// The same, up to the sum of the stack's words; false: find_stack must be asked, from the start.
TIDEMARK_INLINE bool sum_here(HookFrame hook, Place*& place, uint64_t& meta, uint64_t& sum) {
  const base::ThreadState& t = base::thread_state;
  address sp = hook.sp();
  uint64_t above = t.last_word - sp;
  if (TIDEMARK_UNLIKELY(above > t.quick_span)) return false;
  uint64_t key = place_key(hook.pc(), sp);
  Place* p = &places.load(std::memory_order_acquire)->at(key);
  meta = p->meta.load(std::memory_order_acquire);
  place = p;
  return TIDEMARK_LIKELY(is_quick(meta, key)) &&
         near_sum_at(*p, meta, key, sp, above, [hook]() __attribute__((always_inline)) { return hook.caller().rbp; }, sum);
}

}  // namespace tidemark::stacks
