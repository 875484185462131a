#include "preload/stacks/known_stacks.h"

#include <emmintrin.h>

#include <atomic>

#include "preload/base/memory.h"
#include "preload/base/spin_lock.h"
#include "preload/base/thread_state.h"
#include "preload/stacks/places.h"

namespace tidemark::stacks {
namespace {

// A line. The lower 32 bits of a fingerprint, 0: free; and the upper 40 with the stack. Not read together: both halves tell
// of one fingerprint, or it is nobody's.
constexpr uint32_t kWays = 5;
struct alignas(64) Set {
  uint32_t low[kWays + 1];
  uint64_t entry[kWays];
};
static_assert(sizeof(Set) == 64);
struct alignas(64) Table {
  uint32_t mask;   // sets - 1
  std::atomic<uint32_t> put;   // how often, where there was no such entry
  Set sets[];
};
constexpr uint32_t kFirstSets = 32, kMaxSets = 1 << 17;
constinit std::atomic<Table*> table{nullptr};
constinit base::SpinLock growing;

Table* new_table(uint32_t sets) {
  auto* t = static_cast<Table*>(base::small_table(sizeof(Table) + sets * sizeof(Set)));
  if (t) t->mask = sets - 1;
  return t;
}

uint32_t way_of(const Set& set, uint32_t low) {
  uint32_t way = 0;
  while (way < kWays && set.low[way] != low) way++;
  return way;
}

void put(Table* t, uint32_t low, uint64_t entry) {
  Set& set = t->sets[low & t->mask];
  uint32_t way = way_of(set, low);
  if (way == kWays) {
    t->put.fetch_add(1, std::memory_order_relaxed);
    way = way_of(set, 0);
    if (way == kWays) way = base::thread_state.victim++ % kWays;
  }
  __atomic_store_n(&set.entry[way], entry, __ATOMIC_RELEASE);
  __atomic_store_n(&set.low[way], low, __ATOMIC_RELEASE);
}

Table* grow(Table* old) {
  if (!growing.try_lock()) return old;   // somebody else does it
  if (table.load() == old) {
    if (Table* bigger = new_table((old->mask + 1) * 2)) {
      for (uint32_t i = 0; i <= old->mask; i++)
        for (uint32_t w = 0; w < kWays; w++)
          if (uint32_t low = old->sets[i].low[w]) put(bigger, low, old->sets[i].entry[w]);
      table.store(bigger, std::memory_order_release);
      base::discard_table(old, sizeof(Table) + (old->mask + 1) * sizeof(Set));
    }
  }
  growing.unlock();
  return table.load(std::memory_order_acquire);
}
}  // namespace

void prefetch_known_stack(uint64_t fingerprint) {
  const Table* t = table.load(std::memory_order_acquire);
  __builtin_prefetch(&t->sets[uint32_t(fingerprint) & t->mask]);
}

uint32_t known_stack(uint64_t fingerprint) {
  const Table* t = table.load(std::memory_order_acquire);
  const Set& set = t->sets[uint32_t(fingerprint) & t->mask];
  const auto* low = reinterpret_cast<const __m128i*>(&set);
  __m128i wanted = _mm_set1_epi32(int(uint32_t(fingerprint)));
  uint32_t found = uint32_t(_mm_movemask_ps(_mm_castsi128_ps(_mm_cmpeq_epi32(_mm_load_si128(low), wanted))));
  found |= uint32_t(set.low[kWays - 1] == uint32_t(fingerprint)) << (kWays - 1);
  if (!found) return 0;
  uint64_t entry = __atomic_load_n(&set.entry[__builtin_ctz(found)], __ATOMIC_ACQUIRE);
  return (entry ^ fingerprint) >> 24 ? 0 : stack_in(entry);
}

void know_stack(uint64_t fingerprint, uint32_t stack, uint64_t all) {
  uint32_t low = uint32_t(fingerprint);
  if (!low) return;
  Table* t = table.load(std::memory_order_acquire);
  uint32_t sets = t->mask + 1;
  if (TIDEMARK_UNLIKELY(t->put.load(std::memory_order_relaxed) > sets * 3 && sets < kMaxSets && sets < all + kFirstSets)) t = grow(t);
  put(t, low, stack_entry(fingerprint, stack));
}

bool start_known_stacks() {
  growing.reset();
  Table* t = new_table(kFirstSets);
  if (!t) return false;
  table.store(t);
  return true;
}

void forget_known_stacks() {
  base::SpinGuard guard(growing);   // or a table that is being grown would bring back what is dropped here
  Table* t = table.load(std::memory_order_acquire);
  for (uint32_t i = 0; i <= t->mask; i++)
    for (uint32_t w = 0; w < kWays; w++) __atomic_store_n(&t->sets[i].low[w], 0, __ATOMIC_RELAXED);
  t->put.store(0, std::memory_order_relaxed);
}

}  // namespace tidemark::stacks
