#include "preload/stacks/known_stacks.h"

#include "preload/base/memory.h"
#include "preload/base/spin_lock.h"
#include "preload/base/thread_state.h"
#include "preload/stacks/places.h"

namespace tidemark::stacks {

constinit std::atomic<KnownStacks*> known_stacks{nullptr};

namespace {

constexpr uint32_t kFirstSets = 32, kMaxSets = 1 << 17;
constinit base::SpinLock growing;

KnownStacks* new_table(uint32_t sets) {
  auto* t = static_cast<KnownStacks*>(base::small_table(sizeof(KnownStacks) + sets * sizeof(KnownSet)));
  if (t) t->mask = sets - 1;
  return t;
}

uint32_t way_of(const KnownSet& set, uint32_t low) {
  uint32_t way = 0;
  while (way < kKnownWays && set.low[way] != low) way++;
  return way;
}

void put(KnownStacks* t, uint32_t low, uint64_t entry) {
  KnownSet& set = t->sets[low & t->mask];
  uint32_t way = way_of(set, low);
  if (way == kKnownWays) {
    t->put.fetch_add(1, std::memory_order_relaxed);
    way = way_of(set, 0);
    if (way == kKnownWays) way = base::thread_state.victim++ % kKnownWays;
  }
  __atomic_store_n(&set.entry[way], entry, __ATOMIC_RELEASE);
  __atomic_store_n(&set.low[way], low, __ATOMIC_RELEASE);
}

KnownStacks* grow(KnownStacks* old) {
  if (!growing.try_lock()) return old;   // somebody else does it
  if (known_stacks.load() == old) {
    if (KnownStacks* bigger = new_table((old->mask + 1) * 2)) {
      for (uint32_t i = 0; i <= old->mask; i++)
        for (uint32_t w = 0; w < kKnownWays; w++)
          if (uint32_t low = old->sets[i].low[w]) put(bigger, low, old->sets[i].entry[w]);
      known_stacks.store(bigger, std::memory_order_release);
      base::discard_table(old, sizeof(KnownStacks) + (old->mask + 1) * sizeof(KnownSet));
    }
  }
  growing.unlock();
  return known_stacks.load(std::memory_order_acquire);
}
}  // namespace

void prefetch_known_stack(uint64_t fingerprint) {
  const KnownStacks* t = known_stacks.load(std::memory_order_acquire);
  __builtin_prefetch(&t->sets[uint32_t(fingerprint) & t->mask]);
}

void know_stack(uint64_t fingerprint, uint32_t stack, uint64_t all) {
  uint32_t low = uint32_t(fingerprint);
  if (!low) return;
  KnownStacks* t = known_stacks.load(std::memory_order_acquire);
  uint32_t sets = t->mask + 1;
  if (TIDEMARK_UNLIKELY(t->put.load(std::memory_order_relaxed) > sets * 3 && sets < kMaxSets && sets < all + kFirstSets)) t = grow(t);
  put(t, low, stack_entry(fingerprint, stack));
}

bool start_known_stacks() {
  growing.reset();
  KnownStacks* t = new_table(kFirstSets);
  if (!t) return false;
  known_stacks.store(t);
  return true;
}

void forget_known_stacks() {
  base::SpinGuard guard(growing);   // or a table that is being grown would bring back what is dropped here
  KnownStacks* t = known_stacks.load(std::memory_order_acquire);
  for (uint32_t i = 0; i <= t->mask; i++)
    for (uint32_t w = 0; w < kKnownWays; w++) __atomic_store_n(&t->sets[i].low[w], 0, __ATOMIC_RELAXED);
  t->put.store(0, std::memory_order_relaxed);
}

}  // namespace tidemark::stacks
