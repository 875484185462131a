#include "preload/heap/counters.h"

namespace tidemark::heap {
using namespace format;
namespace {

void add(uint64_t& word, uint64_t n) { __atomic_fetch_add(&word, n, __ATOMIC_RELAXED); }
template <class T>
void raise(T& word, T value) {
  T old = __atomic_load_n(&word, __ATOMIC_RELAXED);
  while (value > old && !__atomic_compare_exchange_n(&word, &old, value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
}

// The calling thread's stripe of the shared counters; nullptr: no room.
SharedCounters* stripe_of(StackRecord* s) {
  uint32_t id = __atomic_load_n(&s->shared, __ATOMIC_ACQUIRE);
  if (!id) {
    uint32_t fresh = base::take_lines(PageKind::kShared, kStripes);
    if (!fresh) {
      base::count(kSharedDenied);
      return nullptr;
    }
    // Lost to another thread: four lines stay unused.
    if (__atomic_compare_exchange_n(&s->shared, &id, fresh, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) id = fresh;
  }
  return base::line<SharedCounters>(id + (base::thread_state.owner & (kStripes - 1)));
}

// Nobody owns the stack, or its owner has ended: the calling thread takes over.
bool take_over(StackRecord* s) {
  uint32_t owner = __atomic_load_n(&s->owner, __ATOMIC_ACQUIRE), mine = base::thread_state.owner;
  if (mine == base::kNoOwner || owner == kNeverOwned || (owner && owner_alive(owner))) return false;
  return __atomic_compare_exchange_n(&s->owner, &owner, mine, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}
}  // namespace

Live live_of(const StackRecord* s) {
  Live live{};
  // Frees first: what is allocated meanwhile can then only make the figure larger, never negative.
  int64_t freed_bytes = int64_t(s->freed_bytes), freed_count = int64_t(s->freed_count);
  const SharedCounters* c = s->shared ? base::line<SharedCounters>(s->shared) : nullptr;
  for (uint32_t i = 0; c && i < kStripes; i++) freed_bytes += int64_t(c[i].freed_bytes), freed_count += int64_t(c[i].freed_count);
  base::compiler_barrier();
  live.bytes = int64_t(s->allocated_bytes) - freed_bytes;
  live.count = int64_t(s->allocated_count) - freed_count;
  for (uint32_t i = 0; c && i < kStripes; i++) live.bytes += int64_t(c[i].allocated_bytes), live.count += int64_t(c[i].allocated_count);
  return live;
}

void raise_peak(StackRecord* s) {
  int64_t bytes = live_of(s).bytes;
  if (bytes > 0) raise(s->peak_live_bytes, uint64_t(bytes));
}

__attribute__((noinline)) void count_allocation_slowly(StackRecord* s, uint32_t id, uint64_t bytes) {
  (void)id;
  base::ThreadState& t = base::thread_state;
  uint32_t owner = __atomic_load_n(&s->owner, __ATOMIC_RELAXED);
  SharedCounters* c = nullptr;
  uint64_t before = 0;
  if ((owner == t.owner && owner != base::kNoOwner) || take_over(s)) {
    before = s->allocated_count++;
    s->allocated_bytes += bytes;
    if (s->shared) c = base::line<SharedCounters>(s->shared + (t.owner & (kStripes - 1)));
  } else if ((c = stripe_of(s))) {
    before = __atomic_fetch_add(&c->allocated_count, 1, __ATOMIC_RELAXED);
    add(c->allocated_bytes, bytes);
  } else {
    add(s->allocated_count, 1);   // against the owner's plain adds: one of them may be lost (counted as shared_denied)
    add(s->allocated_bytes, bytes);
  }
  if (c && c->max_request < bytes) raise(c->max_request, bytes);
  if (bytes >= kPeakAtOnce || before % kPeakEvery == 0) raise_peak(s);
  uint32_t tick = base::header().tick;
  if (s->last_tick != tick) s->last_tick = tick;   // a store would take the line from its owner
  if (id == base::header().overflow_stack) count_overflow(bytes);
}

__attribute__((noinline)) void count_free_slowly(StackRecord* s, uint32_t id, uint64_t bytes) {
  (void)id;
  if (SharedCounters* c = stripe_of(s)) {
    add(c->freed_count, 1);
    add(c->freed_bytes, bytes);
  } else {
    add(s->freed_count, 1);
    add(s->freed_bytes, bytes);
  }
}

void count_overflow(uint64_t bytes) {
  base::count(kOverflowAllocations);
  base::count(kOverflowBytes, bytes);
}

TIDEMARK_COLD uint32_t grant_detail(StackRecord* s, uint32_t id, uint64_t deaths) {
  if (uint32_t known = __atomic_load_n(&s->detail, __ATOMIC_ACQUIRE)) return known;
  uint32_t fresh = base::take_lines(PageKind::kDetails, sizeof(Detail) / kLineBytes);
  if (!fresh) {
    base::count(kDetailsDenied);
    return 0;
  }
  auto* d = base::line<Detail>(fresh);
  uint64_t before = s->freed_count;
  if (s->shared)
    for (uint32_t i = 0; i < kStripes; i++) before += base::line<SharedCounters>(s->shared)[i].freed_count;
  d->deaths_before = before > deaths ? before - deaths : 0;
  d->granted_tick = base::header().tick;
  d->series_ticks = kTicksPerSecond;
  __atomic_store_n(&d->stack, id, __ATOMIC_RELEASE);
  uint32_t none = 0;
  if (!__atomic_compare_exchange_n(&s->detail, &none, fresh, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
    __atomic_store_n(&d->stack, 0, __ATOMIC_RELEASE);   // another thread was first: this one stays empty
    return none;
  }
  base::count(kDetails);
  return fresh;
}

__attribute__((noinline)) void count_death(StackRecord* s, uint32_t id, uint32_t age_ticks) {
  uint32_t detail = grant_detail(s, id, 1);
  if (!detail) {
    base::count(kDetailDeathsLost);
    return;
  }
  auto* d = base::line<Detail>(detail);
  __atomic_fetch_add(&d->lifetime[lifetime_bucket(age_ticks)], 1, __ATOMIC_RELAXED);
  if (age_ticks > d->max_age_ticks) raise(d->max_age_ticks, age_ticks);
}

}  // namespace tidemark::heap
