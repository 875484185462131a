// A stack's fingerprint: the sum, modulo 2^64, of the words that make it what it is, each times an odd factor of its own. One word that
// differs always shows; several cancel each other by a chance of about 2^-64.
//
// Which words? A walk is decided by pc, by the return addresses it reads, and, where a frame's place depends on rbp, by where saved values of
// rbp point to. So once a stack has been walked, the places of these words, relative to sp, are its LAYOUT; and another stack at the same
// (pc, sp) that has the same words there is the same stack: the rule of the first pc says where its return address is, the word there is the
// same, hence the next rule, and so on. Layouts are few: mostly one for each place, whatever the return addresses are (99.7 % of the calls in
// Python's storm, 98.7 % in murmur, 65 % in a compiler). To read at places that are known needs no rule and no node of the tree.
//
// Hashing by multipliers: Lemire and Kaser, "Strongly universal string hashing is fast", The Computer Journal 57 (2014).
#pragma once
#include <bit>

#include "preload/base/common.h"

namespace tidemark::stacks {

// Eight bytes. Where words are: the first at sp + 8 × base, each of the others 8 × kUnit × its step further out. Steps of 0 at the end repeat
// the last word.
struct ReturnSlot {   // return addresses; after a frame of 4 KiB, or one that is no multiple of 16 bytes, a new slot begins
  using Step = uint8_t;
  static constexpr uint32_t kUnit = 2;
  uint16_t base;
  Step steps[6];
};
struct ValueSlot {    // addresses in the stack, taken relative to sp
  using Step = uint16_t;
  static constexpr uint32_t kUnit = 1;
  uint16_t base;
  Step steps[3];
};
inline constexpr uint32_t kReturnsPerSlot = 7, kValuesPerSlot = 4;

TIDEMARK_OWN const uint64_t kFactors[3];                      // in memory: shorter code than with constants
inline constexpr uint64_t kSlotFactor = 0xD1342543DE82EF95;   // 5 modulo 8: no small power of it is near 1
inline constexpr uint64_t kRbpFactor = 0xB5297A4D85EBCA6B;    // of the caller's rbp, which is in no place of the stack

// Adds a slot, for equal words elsewhere are another fingerprint, and its words. Another thread may be changing it: each step is read once, and no word
// beyond `last`. False: one would lie there. A multiplication takes two words, which is as good: one of them alone still always shows.
template <class Slot, uint32_t kWords, class Take>
TIDEMARK_INLINE bool add_slot(uint64_t& h, const uint64_t* slot, address sp, address last, Take take) {
  const auto* s = reinterpret_cast<const volatile Slot*>(slot);
  uint64_t at[kWords] = {s->base};
#pragma GCC unroll 8
  for (uint32_t i = 1; i < kWords; i++) at[i] = at[i - 1] + uint64_t{s->steps[i - 1]} * Slot::kUnit;
  if (TIDEMARK_UNLIKELY(sp + at[kWords - 1] * 8 > last)) return false;
  h += *slot;
  auto word = [&](uint32_t i) { return take(base::load(sp + at[i] * 8)); };
#pragma GCC unroll 8
  for (uint32_t i = 0; i + 1 < kWords; i += 2) h += (std::rotl(word(i), 32) + word(i + 1)) * kFactors[i / 2];
  if (kWords % 2) h += word(kWords - 1);
  h *= kSlotFactor;
  return true;
}
// The lower half of the sum knows little of every other word.
inline uint64_t finished(uint64_t h) { return h ^ h >> 32; }

TIDEMARK_INLINE bool add_returns(uint64_t& h, const uint64_t* slot, address sp, address last) {
  return add_slot<ReturnSlot, kReturnsPerSlot>(h, slot, sp, last, [](uint64_t word) { return word; });
}
TIDEMARK_INLINE bool add_values(uint64_t& h, const uint64_t* slot, address sp, address last) {
  return add_slot<ValueSlot, kValuesPerSlot>(h, slot, sp, last, [sp](uint64_t word) { return word - sp; });
}

}  // namespace tidemark::stacks
