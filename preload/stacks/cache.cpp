#include "preload/stacks/cache.h"

#include <cstring>

#include "preload/base/memory.h"
#include "preload/base/spin_lock.h"
#include "preload/stacks/known_stacks.h"
#include "preload/stacks/path.h"

namespace tidemark::stacks {

constinit std::atomic<Cache*> leaf_cache{nullptr}, join_cache{nullptr};
constinit std::atomic<Guesses*> guesses{nullptr};

namespace {
constexpr uint32_t kFirstSets = 32, kMaxSets = 1 << 15;
constinit base::SpinLock growing;

Cache* new_cache(uint32_t sets) {
  auto* c = static_cast<Cache*>(base::small_table(sizeof(Cache) + sets * sizeof(CacheSet)));
  if (c) c->mask = sets - 1;
  return c;
}

void put_way(CacheSet& set, uint32_t way, uint32_t tag, uint32_t id) {
  __atomic_store_n(&set.ids[way], id, __ATOMIC_RELEASE);
  __atomic_store_n(&set.tags[way], tag, __ATOMIC_RELEASE);
}

// Twice the sets, with what is there. The set is a part of the tag, so each entry knows its new one.
void grow(std::atomic<Cache*>& cache, Cache* old) {
  if (!growing.try_lock()) return;   // somebody else does it
  if (cache.load() == old) {
    if (Cache* bigger = new_cache((old->mask + 1) * 2)) {
      for (uint32_t i = 0; i <= old->mask; i++)
        for (uint32_t w = 0; w < 8; w++)
          if (uint32_t tag = old->sets[i].tags[w]) {
            CacheSet& set = bigger->set_of(tag);
            uint32_t way = 0;
            while (way < 7 && set.tags[way]) way++;
            put_way(set, way, tag, old->sets[i].ids[w]);
          }
      bigger->put.store(old->put.load(std::memory_order_relaxed), std::memory_order_relaxed);
      cache.store(bigger, std::memory_order_release);
      base::discard_table(old, sizeof(Cache) + (old->mask + 1) * sizeof(CacheSet));
    }
  }
  growing.unlock();
}

Guesses* new_guesses(uint32_t number) {
  auto* g = static_cast<Guesses*>(base::small_table(sizeof(Guesses) + number * sizeof(Guess)));
  if (g) g->mask = number - 1;
  return g;
}

void empty(Cache* c) {
  for (uint32_t i = 0; i <= c->mask; i++)
    for (uint32_t w = 0; w < 8; w++) __atomic_store_n(&c->sets[i].tags[w], 0, __ATOMIC_RELAXED);
  c->put.store(0, std::memory_order_relaxed);
}
}  // namespace

bool start_caches() {
  growing.reset();
  Cache* leaf = new_cache(kFirstSets);
  Cache* join = new_cache(kFirstSets);
  Guesses* first = new_guesses(kFirstGuesses);
  if (!leaf || !join || !first || !start_places() || !start_known_stacks()) return false;
  leaf_cache.store(leaf);
  join_cache.store(join);
  guesses.store(first);
  forget_paths();
  return true;
}

void widen_guesses(uint64_t stacks) {
  if (stacks < kFirstGuesses / 2 || guesses.load(std::memory_order_relaxed)->mask + 1 == kGuesses || !growing.try_lock()) return;
  if (guesses.load()->mask + 1 != kGuesses)
    if (Guesses* whole = new_guesses(kGuesses)) guesses.store(whole, std::memory_order_release);
  growing.unlock();
}

void empty_caches() {
  base::SpinGuard guard(growing);   // or a table that is being grown would bring back what is dropped here
  Guesses* known = guesses.load(std::memory_order_acquire);
  for (uint32_t i = 0; i <= known->mask; i++) {
    known->guesses[i].leaves.store(0, std::memory_order_relaxed);
    known->guesses[i].sizes.store(0, std::memory_order_relaxed);
  }
  empty(leaf_cache.load(std::memory_order_acquire));
  empty(join_cache.load(std::memory_order_acquire));
  empty_places();
  forget_known_stacks();
  forget_paths();
}

void cache_put(std::atomic<Cache*>& cache, uint32_t tag, uint32_t id, uint32_t wanted) {
  Cache* c = cache.load(std::memory_order_acquire);
  if (TIDEMARK_UNLIKELY(wanted > c->mask * 8 && c->put.load(std::memory_order_relaxed) > c->mask * 4 && c->mask + 1 < kMaxSets)) {
    grow(cache, c);
    c = cache.load(std::memory_order_acquire);
  }
  CacheSet& set = c->set_of(tag);
  uint32_t way = 0;
  while (way < 8 && set.tags[way] && set.tags[way] != tag) way++;
  if (way == 8 || !set.tags[way]) c->put.fetch_add(1, std::memory_order_relaxed);
  put_way(set, way < 8 ? way : base::thread_state.victim++ & 7, tag, id);
}

__attribute__((noinline)) uint32_t cache_get(std::atomic<Cache*>& cache, uint32_t& tag, address pc, address sp,
                                             const address* rbp_at, uint32_t& hops) {
  Cache* c = cache.load(std::memory_order_acquire);
  Difference at{};
  for (;; hops--) {
    uint32_t id = probe(c, tag);
    if (!id || prove(id, pc, sp, rbp_at, at)) return id;
    if (!hops) return 0;
    tag = uint32_t(base::mix((at.pc ^ (at.sp - sp) << 48) * 0xA0761D6478BD642Full + id) >> 16) | 1;
  }
}

}  // namespace tidemark::stacks
