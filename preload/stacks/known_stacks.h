// Fingerprint -> StackRecord, for all stacks that were looked up of late. Shared by all threads, without locks; an entry may be lost, then its stack
// is looked up by other means and comes back. An outgrown table is left to readers that linger in it.
#pragma once
#include <emmintrin.h>

#include <atomic>

#include "preload/base/common.h"

namespace tidemark::stacks {

inline constexpr uint32_t kKnownWays = 5;
// A line. The lower 32 bits of a fingerprint, 0: free; and the upper 40 with the stack. Not read together: both halves tell
// of one fingerprint, or it is nobody's.
struct alignas(64) KnownSet {
  uint32_t low[kKnownWays + 1];
  uint64_t entry[kKnownWays];
};
static_assert(sizeof(KnownSet) == 64);
struct alignas(64) KnownStacks {
  uint32_t mask;   // sets - 1
  std::atomic<uint32_t> put;   // how often, where there was no such entry
  KnownSet sets[];
};
TIDEMARK_OWN std::atomic<KnownStacks*> known_stacks;

inline uint64_t stack_entry(uint64_t fingerprint, uint32_t stack) { return (fingerprint & ~uint64_t{0xffffff}) | stack; }
inline uint32_t stack_in(uint64_t entry) { return uint32_t(entry & 0xffffff); }

// 0: not known.
TIDEMARK_INLINE uint32_t known_stack(uint64_t fingerprint) {
  const KnownStacks* t = known_stacks.load(std::memory_order_acquire);
  const KnownSet& set = t->sets[uint32_t(fingerprint) & t->mask];
  const auto* low = reinterpret_cast<const __m128i*>(&set);
  __m128i wanted = _mm_set1_epi32(int(uint32_t(fingerprint)));
  uint32_t found = uint32_t(_mm_movemask_ps(_mm_castsi128_ps(_mm_cmpeq_epi32(_mm_load_si128(low), wanted))));
  found |= uint32_t(set.low[kKnownWays - 1] == uint32_t(fingerprint)) << (kKnownWays - 1);
  if (!found) return 0;
  uint64_t entry = __atomic_load_n(&set.entry[__builtin_ctz(found)], __ATOMIC_ACQUIRE);
  return (entry ^ fingerprint) >> 24 ? 0 : stack_in(entry);
}
void prefetch_known_stack(uint64_t fingerprint);
// all: how many stacks there are by now; a few fingerprints each must do, for those of a layout that is gone stay until others need the room.
void know_stack(uint64_t fingerprint, uint32_t stack, uint64_t all);

bool start_known_stacks();    // fresh, empty (also in a child of fork); false: no memory
void forget_known_stacks();   // see empty_caches

}  // namespace tidemark::stacks
