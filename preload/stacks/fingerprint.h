// A stack's fingerprint: 64 bits, of all the words that make it what it is. Two stacks have the same one by a chance of about 2^-64.
//
// Which words? A walk is decided by pc, by the return addresses it reads, and, where a frame's place depends on rbp, by where saved values of
// rbp point to. So once a stack has been walked, the places of these words, relative to sp, are its LAYOUT; and another stack at the same
// (pc, sp) that has the same words there is the same stack: the rule of the first pc says where its return address is, the word there is the
// same, hence the next rule, and so on. Layouts are few: mostly one for each place, whatever the return addresses are (99.7 % of the calls in
// Python's storm, 98.7 % in murmur, 65 % in a compiler). To read at places that are known needs no rule and no node of the tree.
//
// Two ways to add the words up, one for a process's whole life: rounds of AES, where the processor has instructions for them (all of 2011 and
// later), take half the time of products.
#pragma once
#include <emmintrin.h>

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

inline constexpr uint32_t kMostSlots = 51;

// What both sums do with some of the slots, the last one's first; false: a word would lie further out than `most` words.
//   template <Words kind> bool add(const uint64_t* slots, uint64_t first, uint64_t end, address sp, uint64_t most)

// A loop over slots: 19 instructions for four return addresses, and six registers. Compilers take a few more of each, which the whole of a hook pays for.
#define TIDEMARK_ADD_SLOTS(words_of_a_slot, ...)                                                                                          \
  __asm__ volatile("1: movq -8(%[slots], %[left], 8), %[slot]\n\t"                                                                        \
                   "movq %[slot], %[at]\n\t"                                                                                              \
                   "shrq $48, %[at]\n\t"                                                                                                  \
                   "cmpq %[at], %[most]\n\t"                                                                                              \
                   "jb 2f\n\t" words_of_a_slot "subq $1, %[left]\n\t"                                                                    \
                   "jne 1b\n\t"                                                                                                           \
                   "2:"                                                                                                                   \
                   : [one] "+x"(one_), [other] "+x"(other_), [plain] "+x"(plain_), [left] "+r"(left), [slot] "=&r"(slot),                 \
                     [at] "=&r"(at), [words] "=&x"(words), "=@ccc"(beyond)                                                                \
                   : [slots] "r"(slots + first), [sp] "r"(sp), [most] "r"(most) __VA_OPT__(, ) __VA_ARGS__                                \
                   : "memory")
#define TIDEMARK_LAST(how, where) how " " where "(%[sp], %[at], 8), %[words]\n\t"   // `at` is known from the check
#define TIDEMARK_FIRST(how, where) "movzwl %w[slot], %k[at]\n\t" TIDEMARK_LAST(how, where)
#define TIDEMARK_SECOND(how, where) "shrq $16, %[slot]\n\t" TIDEMARK_FIRST(how, where)
#define TIDEMARK_THIRD(how, where) "shrl $16, %k[slot]\n\t" how " " where "(%[sp], %[slot], 8), %[words]\n\t"
#define TIDEMARK_MIX(round, state) round " %[words], %[" state "]\n\tpaddq %[words], %[plain]\n\t"
#define TIDEMARK_MIX_ONE TIDEMARK_MIX("aesenc", "one")
#define TIDEMARK_MIX_OTHER TIDEMARK_MIX("aesdec", "other")
#define TIDEMARK_RELATIVE "psubq %[base], %[words]\n\t"

// Each two words are the key of a round, in turns of two states: a round can be undone, so words that differ once always leave other states. What one round
// makes of one byte are but four: the right four in the next key would take it back, for one in 2^32 such keys. So the words are added up as they are,
// too, which these would not leave alone. Two more rounds bring each bit of all three to each of the result.
// One state's rounds go forwards, the other's backwards: of two return addresses that change places the sum knows nothing, and where both states had gone
// as many rounds since, alike, they made the same of it for one in 128. A column forwards, (2a, a, a, 3a), is none backwards, (14b, 9b, 13b, 11b).
// Rounds as a hash: Kölbl, Lauridsen, Mendel and Rechberger, "Haraka v2", ToSC 2016; beside a sum: Kaitchuck's aHash.
// In assembly, for the rest may be compiled for any x86-64.
class AesSum {
 public:
  TIDEMARK_INLINE explicit AesSum(uint64_t key) : one_(_mm_cvtsi64_si128(int64_t(key))), other_(_mm_setzero_si128()), plain_(_mm_setzero_si128()) {}

  template <Words kind>
  TIDEMARK_INLINE bool add(const uint64_t* slots, uint64_t first, uint64_t end, address sp, uint64_t most) {
    uint64_t left = end - first, slot, at;
    __m128i words;
    bool beyond;   // the carry flag, which only the comparison sets
    if (!left) return true;
    if constexpr (kind == Words::kReturns) {
      TIDEMARK_ADD_SLOTS(TIDEMARK_LAST("movq", "") TIDEMARK_FIRST("movhps", "") TIDEMARK_MIX_ONE
                         TIDEMARK_SECOND("movq", "") TIDEMARK_THIRD("movhps", "") TIDEMARK_MIX_OTHER);
    } else if constexpr (kind == Words::kValues) {
      TIDEMARK_ADD_SLOTS(TIDEMARK_LAST("movq", "") TIDEMARK_FIRST("movhps", "") TIDEMARK_RELATIVE TIDEMARK_MIX_ONE
                         TIDEMARK_SECOND("movq", "") TIDEMARK_THIRD("movhps", "") TIDEMARK_RELATIVE TIDEMARK_MIX_OTHER,
                         [base] "x"(_mm_set1_epi64x(int64_t(sp))));
    } else {   // of the two words, what lies before the return address is relative: the lower one
      TIDEMARK_ADD_SLOTS(TIDEMARK_LAST("movups", "-8") TIDEMARK_RELATIVE TIDEMARK_MIX_ONE TIDEMARK_FIRST("movups", "-8") TIDEMARK_RELATIVE TIDEMARK_MIX_OTHER
                         TIDEMARK_SECOND("movups", "-8") TIDEMARK_RELATIVE TIDEMARK_MIX_ONE TIDEMARK_THIRD("movups", "-8") TIDEMARK_RELATIVE TIDEMARK_MIX_OTHER,
                         [base] "x"(_mm_cvtsi64_si128(int64_t(sp))));
    }
    return TIDEMARK_LIKELY(!beyond);
  }
  TIDEMARK_INLINE void add_rbp(uint64_t rbp) { mix(one_, _mm_cvtsi64_si128(int64_t(rbp))); }

  TIDEMARK_INLINE uint64_t value() const {
    const __m128i pi = _mm_set_epi64x(0x13198A2E03707344, 0x243F6A8885A308D3);   // its first binary places
    __m128i all = one_;
    mix(all, other_);
    mix(all, plain_);
    mix(all, pi);
    mix(all, pi);
    return uint64_t(_mm_cvtsi128_si64(all));
  }

 private:
  TIDEMARK_INLINE static void mix(__m128i& state, __m128i key) { __asm__("aesenc %1, %0" : "+x"(state) : "x"(key)); }

  __m128i one_, other_, plain_;
};
#undef TIDEMARK_ADD_SLOTS
#undef TIDEMARK_LAST
#undef TIDEMARK_FIRST
#undef TIDEMARK_SECOND
#undef TIDEMARK_THIRD
#undef TIDEMARK_MIX
#undef TIDEMARK_MIX_ONE
#undef TIDEMARK_MIX_OTHER
#undef TIDEMARK_RELATIVE

// The sum, modulo 2^64, of the words, each two times an odd factor of their own: one word that differs always shows.
// Lemire and Kaser, "Strongly universal string hashing is fast", The Computer Journal 57 (2014).
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

class ProductSum {
 public:
  explicit ProductSum(uint64_t key) : sum_(key) {}

  template <Words kind>
  bool add(const uint64_t* slots, uint64_t first, uint64_t end, address sp, uint64_t most) {
    for (uint64_t i = end; i > first; i--)
      if (!add_slot<kind>(static_cast<const volatile uint64_t*>(slots)[i - 1], kFactors.of[i - 1], sp, most)) return false;
    return true;
  }
  void add_rbp(uint64_t rbp) { sum_ += rbp * kRbpFactor; }
  uint64_t value() const { return sum_; }

 private:
  template <Words kind>
  bool add_slot(uint64_t slot, const SlotFactors& f, address sp, uint64_t most) {
    const uint64_t at[kWordsPerSlot] = {slot & 0xffff, slot >> 16 & 0xffff, slot >> 32 & 0xffff, slot >> 48};
    if (at[3] > most) return false;
    auto word = [sp](uint64_t a) { return base::load(sp + a * 8) - (kind == Words::kValues ? sp : 0); };
    sum_ += (std::rotl(word(at[0]), 32) + word(at[1])) * f.words[0];
    sum_ += (std::rotl(word(at[2]), 32) + word(at[3])) * f.words[1];
    if constexpr (kind == Words::kChained) {
      auto saved = [sp](uint64_t a) { return base::load(sp + a * 8 - 8) - sp; };
      sum_ += (std::rotl(saved(at[0]), 32) + saved(at[1])) * f.chained[0];
      sum_ += (std::rotl(saved(at[2]), 32) + saved(at[3])) * f.chained[1];
    }
    return true;
  }

  uint64_t sum_;
};

// Of a layout: equal words elsewhere are another stack. counts: how many slots there are of each kind. 32 bits do, for it tells apart
// what is at one place.
inline uint32_t layout_hash(const uint64_t* slots, uint32_t all, uint64_t counts) {
  uint64_t h = counts * kCountsFactor;
  for (uint32_t i = 0; i < all; i++) h += slots[i] * kFactors.slots[i];
  return uint32_t(h >> 32);
}
// sum: with the place's key. The lower half of a sum knows little of every other word.
inline uint64_t fingerprint_of(uint64_t sum, uint32_t layout) {
  sum += uint64_t{layout} << 32;
  sum = (sum ^ sum >> 32) * kRbpFactor;
  return sum ^ sum >> 32;
}

}  // namespace tidemark::stacks
