#include "preload/heap/counters.h"

#include <algorithm>

namespace tidemark::heap {
using namespace format;
namespace {

void add(uint64_t& word, uint64_t n) { __atomic_fetch_add(&word, n, __ATOMIC_RELAXED); }

// Nobody owns these counters, or their owner has ended: the calling thread takes over.
bool take_over(uint32_t& word) {
  uint32_t owner = __atomic_load_n(&word, __ATOMIC_ACQUIRE), mine = base::thread_state.owner;
  if (mine == base::kNoOwner || owner == kNeverOwned || (owner && owner_alive(owner))) return false;
  return __atomic_compare_exchange_n(&word, &owner, mine, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}
bool owns(const uint32_t& word) {
  uint32_t mine = base::thread_state.owner;
  return __atomic_load_n(&word, __ATOMIC_RELAXED) == mine && mine != base::kNoOwner;
}

// Those of the stack; nullptr: none yet, and no room.
SharedCounters* stripes_of(StackRecord* s) {
  uint32_t id = __atomic_load_n(&s->shared, __ATOMIC_ACQUIRE);
  if (!id) {
    uint32_t fresh = base::take_lines(PageKind::kShared, kStripes);
    if (!fresh) {
      base::count(kSharedDenied);
      return nullptr;
    }
    // Lost to another thread: four lines stay unused.
    if (__atomic_compare_exchange_n(&s->shared, &id, fresh, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
      __atomic_store_n(&base::line<SharedCounters>(fresh)->stack, base::line_number(s), __ATOMIC_RELEASE);
      id = fresh;
    }
  }
  return base::line<SharedCounters>(id);
}

// Where the calling thread adds, and whether no other one does.
struct Stripe {
  SharedCounters* counters;
  bool own;
};
Stripe stripe_among(SharedCounters* stripes) {
  SharedCounters* c = stripes + 1 + slot_number(base::thread_state.owner) % (kStripes - 1);
  if (owns(c->owner) || take_over(c->owner)) return {c, true};
  return {stripes, false};
}

// For noted_stripe(). Where a thread allocates for the first time in a tick, the record is told (last_tick); what is counted at the overflow record is
// counted once more: these must come by.
void note_stripe(uint32_t stack, const SharedCounters* counters, uint32_t only_frees) {
  base::ThreadState& t = base::thread_state;
  const Header& h = base::header();
  if (!t.stripes || stack == h.overflow_stack) return;
  if (t.stripes_tick != h.tick) {
    t.stripes_tick = base::kNoTick;
    for (uint32_t i = 0; i < kNotedStripes; i++) t.stripes[i] = {};
    base::compiler_barrier();   // a handler may jump out of here
    t.stripes_tick = h.tick;
  }
  t.stripes[stack % kNotedStripes] = {stack, base::line_number(counters) | only_frees};
}

// Whether counters that only the calling thread adds to, `live` bytes before it adds so many, rise so far above the lowest since it looked at the peak that
// it is to look again: up to there, whoever looked meanwhile saw nearly all of them.
bool rises(SharedCounters& c, int64_t live, uint64_t bytes) {
  if (c.max_request < bytes) raise(c.max_request, bytes);
  if (live < c.low_live_bytes) c.low_live_bytes = live;
  live += int64_t(bytes);
  if (bytes < kPeakAtOnce && live - c.low_live_bytes < int64_t(kPeakEvery * std::min(c.max_request, kPeakAtOnce))) return false;
  c.low_live_bytes = live;
  return true;
}

// True, of each of these: the peak is to be looked at. `shared`: where what is known of it lies; nullptr: nobody else adds, so that a look is cheap.
template <class Counters>
bool count_exclusively(Counters& c, SharedCounters* shared, uint64_t bytes) {
  auto live = int64_t(c.allocated_bytes - c.freed_bytes);
  c.allocated_count++;
  c.allocated_bytes += bytes;
  return !shared || rises(*shared, live, bytes);
}
bool count_atomically(SharedCounters& c, uint64_t bytes) {
  uint64_t before = __atomic_fetch_add(&c.allocated_count, 1, __ATOMIC_RELAXED);
  add(c.allocated_bytes, bytes);
  if (c.max_request < bytes) raise(c.max_request, bytes);
  return bytes >= kPeakAtOnce || before % kPeakEvery == 0;
}
template <class Counters>
void count_free_atomically(Counters& c, uint64_t bytes) {
  add(c.freed_count, 1);
  add(c.freed_bytes, bytes);
}

bool count_at(Stripe mine, uint64_t bytes) {
  return mine.own ? count_exclusively(*mine.counters, mine.counters, bytes) : count_atomically(*mine.counters, bytes);
}
void count_free_at(Stripe mine, uint64_t bytes) {
  if (!mine.own) return count_free_atomically(*mine.counters, bytes);
  mine.counters->freed_count++;
  mine.counters->freed_bytes += bytes;
}

bool count_by_owner(StackRecord& s, uint32_t id, uint64_t bytes) {
  if (owns(s.owner) || take_over(s.owner)) return count_exclusively(s, s.shared ? base::line<SharedCounters>(s.shared) : nullptr, bytes);
  if (SharedCounters* stripes = stripes_of(&s)) {
    Stripe mine = stripe_among(stripes);
    note_stripe(id, mine.counters, 0);
    return count_at(mine, bytes);
  }
  add(s.allocated_count, 1);   // against the owner's plain adds: one of them may be lost (counted as shared_denied)
  add(s.allocated_bytes, bytes);
  return true;
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
  if (count_by_owner(*s, id, bytes)) raise_peak(s);
  uint32_t tick = base::header().tick;
  if (s->last_tick != tick) s->last_tick = tick;   // a store would take the line from its owner
  if (id == base::header().overflow_stack) count_overflow(bytes);
}

__attribute__((noinline)) void count_free_slowly(StackRecord* s, uint32_t id, uint64_t bytes) {
  SharedCounters* stripes = stripes_of(s);
  if (!stripes) return count_free_atomically(*s, bytes);
  Stripe mine = stripe_among(stripes);
  note_stripe(id, mine.counters, kOnlyFrees);
  count_free_at(mine, bytes);
}

__attribute__((noinline)) void count_in_stripe(SharedCounters* stripe, uint32_t id, uint64_t bytes) {
  if (count_at({stripe, owns(stripe->owner)}, bytes)) raise_peak(base::line<StackRecord>(id));
}
__attribute__((noinline)) void count_free_in_stripe(SharedCounters* stripe, uint64_t bytes) { count_free_at({stripe, owns(stripe->owner)}, bytes); }

void count_overflow(uint64_t bytes) {
  base::count(kOverflowAllocations);
  base::count(kOverflowBytes, bytes);
}

namespace {

// A stack's bit among those of its page.
class StackBit {
 public:
  StackBit(uint32_t id, uint32_t (StackPage::*bits)[2]) {
    auto* page = reinterpret_cast<StackPage*>(reinterpret_cast<address>(base::line<char>(id)) & ~address{kPageBytes - 1});
    uint32_t line = (id - base::store.first_line) % kLinesPerPage;
    word_ = &(page->*bits)[line / 32];
    bit_ = 1u << line % 32;
  }
  bool is_set() const { return __atomic_load_n(word_, __ATOMIC_RELAXED) & bit_; }
  // What it was.
  bool set() { return is_set() || __atomic_fetch_or(word_, bit_, __ATOMIC_RELAXED) & bit_; }
  bool clear() { return is_set() && __atomic_fetch_and(word_, ~bit_, __ATOMIC_RELAXED) & bit_; }

 private:
  uint32_t *word_, bit_;
};

// Asked again at each walk, and by whoever frees an old block; counted once.
uint32_t deny(uint32_t id, Reason reason) {
  if (reason == Reason::kOldFree) StackBit(id, &StackPage::deaths_lost).set();
  StackBit denied(id, &StackPage::denied);
  if (denied.is_set()) return 0;
  base::count(kDetailsDenied);   // before the bit is there: who finds it takes one away
  if (denied.set()) base::count(kDetailsDenied, -uint64_t{1});
  return 0;
}
}  // namespace

TIDEMARK_COLD uint32_t grant_detail(StackRecord* s, uint32_t id, Reason reason) {
  if (uint32_t known = __atomic_load_n(&s->detail, __ATOMIC_ACQUIRE)) return known;
  constexpr int64_t kPart = 1024;
  const int64_t live = live_of(s).bytes;
  if (reason == Reason::kOldBlocks && live < int64_t(sizeof(Detail))) return 0;
  if (base::is_half_taken(PageKind::kDetails) && live < std::max(base::header().live_bytes / kPart, int64_t(sizeof(Detail)))) return deny(id, reason);
  uint32_t fresh = base::take_lines(PageKind::kDetails, sizeof(Detail) / kLineBytes);
  if (!fresh) return deny(id, reason);
  const uint64_t deaths = reason == Reason::kOldFree;   // the Detail will tell of it
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
  if (StackBit(id, &StackPage::denied).clear()) base::count(kDetailsDenied, -uint64_t{1});
  return fresh;
}

__attribute__((noinline)) void count_death(StackRecord* s, uint32_t id, uint32_t age_ticks) {
  uint32_t detail = grant_detail(s, id, Reason::kOldFree);
  if (!detail) {
    base::count(kDetailDeathsLost);
    return;
  }
  auto* d = base::line<Detail>(detail);
  uint32_t& deaths = d->lifetime[lifetime_bucket(age_ticks)];
  constexpr uint32_t kFull = UINT32_MAX - (1 << 16);   // all threads may be here at once
  if (__atomic_load_n(&deaths, __ATOMIC_RELAXED) < kFull) __atomic_fetch_add(&deaths, 1, __ATOMIC_RELAXED);
  else base::count(kDetailDeathsLost);
  if (age_ticks > d->max_age_ticks) raise(d->max_age_ticks, age_ticks);
}

}  // namespace tidemark::heap
