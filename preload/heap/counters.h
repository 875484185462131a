// Counters per stack, in the region, exact at every moment: there is nothing to fold, so no fold that a SIGKILL could tear.
// A stack's first thread owns its plain counters (ordinary adds to one line). Any other thread adds to the shared ones, in one of four stripes: three
// have an owner, too, and the fourth is for all who find theirs taken, with atomic operations. When an owner has ended, the next thread takes over.
#pragma once
#include <cstring>

#include "preload/heap/page_map.h"
#include "preload/heap/threads.h"

namespace tidemark::heap {

// Owner of the overflow record: every allocation there is counted on the slow path, by shared counters.
inline constexpr uint32_t kNeverOwned = 0xfffffffe;

void count_allocation_slowly(format::StackRecord* s, uint32_t id, uint64_t bytes);
void count_free_slowly(format::StackRecord* s, uint32_t id, uint64_t bytes);
// Where noted_stripe() says.
void count_in_stripe(format::SharedCounters* stripe, uint32_t id, uint64_t bytes);
void count_free_in_stripe(format::SharedCounters* stripe, uint64_t bytes);
void count_death(format::StackRecord* s, uint32_t id, uint32_t age_ticks);
void count_overflow(uint64_t bytes);

// What a stack is to be given a Detail for: a block that grew old was freed (it is counted already), some that live are old, or expired.
enum class Reason { kOldFree, kOldBlocks, kExpired };
// Gives the stack a Detail; 0: there is no room, or it is not worth it: of the second half of what Details may take, all is kept for stacks that hold a
// 1024th of what is live, so that those that fill a process find room however many came before; and what is merely old is told by StackPage::oldest, where it
// is less than a Detail takes. Any thread, not in signal handlers.
uint32_t grant_detail(format::StackRecord* s, uint32_t id, Reason reason);

// Live bytes and count over plain and shared counters; may be off by blocks in flight.
struct Live {
  int64_t bytes, count;
};
Live live_of(const format::StackRecord* s);
void raise_peak(format::StackRecord* s);

// The calling thread owns the stack's plain counters.
TIDEMARK_INLINE void count_own_allocation(format::StackRecord* s, uint64_t bytes, const format::Header& h) {
  s->allocated_count++;
  s->allocated_bytes += bytes;
  uint64_t live = s->allocated_bytes - s->freed_bytes;
  if (live > s->peak_live_bytes) s->peak_live_bytes = live;
  s->last_tick = h.tick;
}

// owner and shared of a record that only its owner counts.
TIDEMARK_INLINE bool is_sole_owner(const format::StackRecord* s, uint32_t owner) {
  static_assert(offsetof(format::StackRecord, shared) == offsetof(format::StackRecord, owner) + sizeof(s->owner));
  uint64_t both;
  memcpy(&both, &s->owner, sizeof both);
  return both == owner;
}

TIDEMARK_INLINE bool has_noted_stripes(const base::ThreadState& t, const format::Header& h) { return t.stripes_tick == h.tick; }
// The stripe where the calling thread counted what this stack did, if that was in this tick: at its end it is asked again whether an owner has ended. Who
// owns the stack is written in a line that the owner writes to at each call, so that to read it waits for another processor.
TIDEMARK_INLINE format::SharedCounters* noted_stripe(const base::ThreadState& t, uint32_t id, const format::Header& h, bool for_frees) {
  if (TIDEMARK_LIKELY(!has_noted_stripes(t, h))) return nullptr;
  const NotedStripe& noted = t.stripes[id % kNotedStripes];
  if (noted.stack != id || (noted.counters & kOnlyFrees && !for_frees)) return nullptr;
  return base::line<format::SharedCounters>(noted.counters & ~kOnlyFrees);
}

TIDEMARK_INLINE void count_allocation(uint32_t id, uint64_t bytes, format::Header& h = base::header()) {
  auto* s = base::line<format::StackRecord>(id);
  if (format::SharedCounters* stripe = noted_stripe(base::thread_state, id, h, false)) {
    count_in_stripe(stripe, id, bytes);
  } else if (TIDEMARK_LIKELY(is_sole_owner(s, base::thread_state.owner))) {
    count_own_allocation(s, bytes, h);
  } else {
    count_allocation_slowly(s, id, bytes);
  }
  add_live(h, int64_t(bytes));
}

// The same where it takes no call; false: nothing was counted.
TIDEMARK_INLINE bool count_allocation_quickly(uint32_t id, uint64_t bytes, format::Header& h, base::ThreadState& t) {
  auto* s = base::line<format::StackRecord>(id);
  if (TIDEMARK_LIKELY(!many_threads)) {
    if (TIDEMARK_UNLIKELY(!is_sole_owner(s, t.owner))) return false;
    add_live_alone(h, int64_t(bytes));
  } else if (has_noted_stripes(t, h) || !is_sole_owner(s, t.owner) || !hold_back(t, int64_t(bytes))) {
    return false;
  }
  count_own_allocation(s, bytes, h);
  return true;
}
TIDEMARK_INLINE bool count_free_quickly(uint32_t id, uint64_t bytes, uint32_t birth_tick, format::Header& h, base::ThreadState& t) {
  auto* s = base::line<format::StackRecord>(id);
  uint32_t age_ticks = (h.tick - birth_tick) & kTickMask;
  auto is_other = [&] { return s->owner != t.owner || (age_ticks && (age_ticks >= format::kDetailAgeTicks || s->detail)); };
  if (TIDEMARK_LIKELY(!many_threads)) {
    if (TIDEMARK_UNLIKELY(is_other())) return false;
    take_live_alone(h, int64_t(bytes));
  } else if (has_noted_stripes(t, h) || is_other() || !hold_back(t, -int64_t(bytes))) {
    return false;
  }
  s->freed_count++;
  s->freed_bytes += bytes;
  return true;
}

TIDEMARK_INLINE void count_free(uint32_t id, uint64_t bytes, uint32_t age_ticks, format::Header& h = base::header()) {
  auto* s = base::line<format::StackRecord>(id);
  if (format::SharedCounters* stripe = noted_stripe(base::thread_state, id, h, true)) {
    count_free_in_stripe(stripe, bytes);
  } else if (TIDEMARK_LIKELY(s->owner == base::thread_state.owner)) {
    s->freed_count++;
    s->freed_bytes += bytes;
  } else {
    count_free_slowly(s, id, bytes);
  }
  if (TIDEMARK_UNLIKELY(age_ticks && (age_ticks >= format::kDetailAgeTicks || s->detail))) count_death(s, id, age_ticks);
  add_live(h, -int64_t(bytes));
}

}  // namespace tidemark::heap
