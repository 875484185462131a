// The caches that guess a stack's leaf, where the thread's path cannot tell it. Shared by all threads, without locks: a guess is always proved (step.h) before it is
// used, so entries may be stale or torn. Outgrown tables are left to readers that linger in them.
#pragma once
#include <emmintrin.h>

#include <atomic>

#include "preload/base/common.h"
#include "preload/stacks/places.h"
#include "preload/stacks/step.h"

namespace tidemark::stacks {

// A set is one line: 8 tags and 8 nodes, not read together: a torn pair is a wrong guess.
struct alignas(64) CacheSet {
  uint32_t tags[8];
  uint32_t ids[8];
};
struct alignas(64) Cache {
  uint32_t mask;   // sets - 1
  std::atomic<uint32_t> put;   // how often, where there was no such tag
  CacheSet sets[];
  CacheSet& set_of(uint32_t tag) { return sets[tag >> 1 & mask]; }   // the lowest bit of a tag is always set
};
TIDEMARK_OWN std::atomic<Cache*> leaf_cache;   // key of a stack (its place and four return addresses) -> leaf
TIDEMARK_OWN std::atomic<Cache*> join_cache;   // place of a full group -> its node; asked on a miss only

// What was found at a place (places.h) before.
struct Guess {
  std::atomic<uint64_t> leaves;   // the last two proved here: 16 bits of the place << 48 | leaf << 24 | leaf that is asked first
  std::atomic<uint64_t> sizes;    // of the first four frames, so that a key's words can be read at once: see lookup.cpp
};
inline constexpr uint32_t kGuesses = 8192, kFirstGuesses = 128;
struct Guesses {
  uint64_t mask;   // guesses - 1
  Guess guesses[];
  Guess& at(uint64_t key) { return guesses[key >> 40 & mask]; }
};
inline uint64_t mark_of(uint64_t key) { return key >> 24 & 0xffff; }
// One page at first, for most processes never need more; whole once there are more stacks than that can serve.
TIDEMARK_OWN std::atomic<Guesses*> guesses;
void widen_guesses(uint64_t stacks);

bool start_caches();   // fresh, empty ones, places and known stacks too (also in a child of fork); false: no memory
void empty_caches();   // a module went: nothing may be answered from what was known of its addresses

// wanted: how many entries there should be room for by now, if they are all put here: few are, where paths tell most stacks
void cache_put(std::atomic<Cache*>& cache, uint32_t tag, uint32_t id, uint32_t wanted);

inline uint32_t join_key(address pc, address sp) { return uint32_t(any_place_key(pc, sp) >> 24) | 1; }

// Key of a stack: its place and the words found after 1 to 4 frames of the given sizes (8 bits each; 0: stay).
TIDEMARK_INLINE uint32_t leaf_key(uint64_t place, address sp, uint32_t sizes) {
  address a = sp + (sizes & 255) * 8, b = a + (sizes >> 8 & 255) * 8, c = b + (sizes >> 16 & 255) * 8, d = c + (sizes >> 24) * 8;
  uint64_t h = place + base::load(a - 8) * 0xD6E8FEB86659FD93ull + base::load(b - 8) * 0xA0761D6478BD642Full +
               base::load(c - 8) * 0xE7037ED1A0B428DBull + base::load(d - 8) * 0x8EBC6AF09C88C6E3ull;
  h = (h ^ h >> 32) * 0x9E3779B97F4A7C15ull;
  return uint32_t(h >> 32) | 1;
}

// Guessed sizes may be of another stack that was here, and this one may end before the words they name.
TIDEMARK_INLINE bool may_read_key(address sp, uint32_t sizes) {
  address a = sp - 8 + (sizes & 255) * 8, b = a + (sizes >> 8 & 255) * 8, c = b + (sizes >> 16 & 255) * 8, d = c + (sizes >> 24) * 8;
  if (TIDEMARK_LIKELY(!((d ^ (sp - 8)) >> 12))) return true;
  return may_read(d, sp) && may_read(c, sp) && may_read(b, sp) && may_read(a, sp);
}

TIDEMARK_INLINE uint32_t probe(Cache* cache, uint32_t tag) {
  CacheSet& set = cache->set_of(tag);
  const auto* tags = reinterpret_cast<const __m128i*>(set.tags);
  __m128i wanted = _mm_set1_epi32(int(tag));
  __m128i low = _mm_cmpeq_epi32(_mm_load_si128(tags), wanted), high = _mm_cmpeq_epi32(_mm_load_si128(tags + 1), wanted);
  uint32_t found = uint32_t(_mm_movemask_epi8(_mm_packs_epi32(low, high)));
  return TIDEMARK_LIKELY(found) ? __atomic_load_n(&set.ids[__builtin_ctz(found) / 2], __ATOMIC_ACQUIRE) : 0;
}

// Asks for the proved answer; where different stacks share a key, (answer, place of the difference, pc found there) is the key of
// the next guess, for at most so many `hops`: then as many are left. 0: unknown; then `tag` is where a new answer belongs.
uint32_t cache_get(std::atomic<Cache*>& cache, uint32_t& tag, address pc, address sp, const address* rbp_at, uint32_t& hops);

}  // namespace tidemark::stacks
