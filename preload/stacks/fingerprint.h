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

// Where four words are: each so many words further out than sp, in order; at the end of a layout the last one is repeated. As one number, at[0] lowest,
// for another thread may be changing it: it is read once.
inline constexpr uint32_t kWordsPerSlot = 4;
constexpr uint64_t make_slot(uint64_t a, uint64_t b, uint64_t c, uint64_t d) { return a | b << 16 | c << 32 | d << 48; }

enum class Words {
  kReturns,   // return addresses
  kChained,   // return addresses, and the word before each, where the caller's rbp is saved: as a value
  kValues,    // addresses in the stack, taken relative to sp
};

// A factor for each two words of a slot, which is as good as one for each: one of them alone still always shows.
inline constexpr uint32_t kMostSlots = 51;
struct SlotFactors {
  uint64_t words[2], chained[2];
};
constexpr uint64_t random_odd(uint64_t n) {   // splitmix64; Steele, Lea and Flood, OOPSLA 2014
  uint64_t z = (n + 1) * 0x9E3779B97F4A7C15;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
  z = (z ^ z >> 27) * 0x94D049BB133111EB;
  return (z ^ z >> 31) | 1;
}
struct Factors {
  SlotFactors of[kMostSlots];
  uint64_t slots[kMostSlots];
};
constexpr Factors make_factors() {
  Factors f{};
  for (uint32_t i = 0; i < kMostSlots; i++) {
    f.of[i] = {{random_odd(5 * i), random_odd(5 * i + 1)}, {random_odd(5 * i + 2), random_odd(5 * i + 3)}};
    f.slots[i] = random_odd(5 * i + 4);
  }
  return f;
}
inline constexpr Factors kFactors = make_factors();
inline constexpr uint64_t kRbpFactor = random_odd(1000);      // of the caller's rbp, which is in no place of the stack
inline constexpr uint64_t kCountsFactor = random_odd(1001);   // of how many slots there are

// Adds the words of slot `i`. False: one would lie further out than `most` words.
template <Words kind>
TIDEMARK_INLINE bool add_slot(uint64_t& sum, const uint64_t* slots, uint32_t i, address sp, uint64_t most) {
  uint64_t s = static_cast<const volatile uint64_t*>(slots)[i];
  if (TIDEMARK_UNLIKELY(s >> 48 > most)) return false;
  uint64_t at[4] = {s & 0xffff, s >> 16 & 0xffff, s >> 32 & 0xffff, s >> 48};
  const SlotFactors& f = kFactors.of[i];
  auto word = [sp](uint64_t a) { return base::load(sp + a * 8) - (kind == Words::kValues ? sp : 0); };
  sum += (std::rotl(word(at[0]), 32) + word(at[1])) * f.words[0];
  sum += (std::rotl(word(at[2]), 32) + word(at[3])) * f.words[1];
  if (kind == Words::kChained) {
    auto saved = [sp](uint64_t a) { return base::load(sp + a * 8 - 8) - sp; };
    sum += (std::rotl(saved(at[0]), 32) + saved(at[1])) * f.chained[0];
    sum += (std::rotl(saved(at[2]), 32) + saved(at[3])) * f.chained[1];
  }
  return true;
}
template <Words kind>
TIDEMARK_INLINE bool add_slots(uint64_t& sum, const uint64_t* slots, uint32_t first, uint32_t end, address sp, uint64_t most) {
  for (uint32_t i = first; i < end; i++)
    if (!add_slot<kind>(sum, slots, i, sp, most)) return false;
  return true;
}

// Of a layout: equal words elsewhere are another stack. counts: how many slots there are of each kind.
inline uint64_t layout_hash(const uint64_t* slots, uint32_t all, uint64_t counts) {
  uint64_t h = counts * kCountsFactor;
  for (uint32_t i = 0; i < all; i++) h += slots[i] * kFactors.slots[i];
  return h;
}
// sum: with the place's key. The lower half of a sum knows little of every other word.
inline uint64_t fingerprint_of(uint64_t sum, uint64_t layout) {
  sum += layout;
  sum = (sum ^ sum >> 32) * kRbpFactor;
  return sum ^ sum >> 32;
}

}  // namespace tidemark::stacks
