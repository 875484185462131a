// First level of a look-up, by place: (pc, sp) of a hook's caller. For a place, the layouts of stacks seen there (fingerprint.h) are known, one
// or some, and which stack each last was; known_stacks.h knows all stacks by fingerprint. Shared by all threads, without locks: a layout that
// changes while it is read gives a fingerprint that is nobody's, or is noticed.
#pragma once
#include <atomic>
#include <bit>

#include "preload/base/common.h"
#include "preload/base/thread_state.h"
#include "preload/stacks/fingerprint.h"
#include "preload/stacks/known_stacks.h"
#include "preload/stacks/left_alone.h"
#include "preload/stacks/walk.h"

namespace tidemark::stacks {

inline constexpr uint32_t kNearSlots = 12, kFarSlots = kMostSlots - kNearSlots;

// One layout of a place. What every look-up reads is in its first line, with five slots, as many as most have; what is more than kNearSlots is in
// the table's `far`.
struct alignas(128) Place {
  std::atomic<uint64_t> meta;       // see below; 0: nothing known, or just being written
  std::atomic<uint64_t> last;       // the stack it was last: upper 40 bits of its words' sum | StackRecord
  std::atomic<uint32_t> last_low;   // the sum's lower 32
  uint32_t layout;                  // of all its slots: see fingerprint_of
  uint64_t slots[kNearSlots];       // of each kind after the other
  std::atomic<uint8_t> unsteady;    // 0 to kMostUnsteady: how often of late its layout was another's; or kNoLayout, kStrange
  std::atomic<uint8_t> vain;        // look-ups that found nothing
  std::atomic<uint8_t> same;        // how often in a row a closer look at such a stack found the same layout; up to kSure
  std::atomic<uint8_t> firsts;      // walks that found a stack never seen before, since the last one that found a known one
};
static_assert(sizeof(Place) == 128);
struct FarSlots {
  uint64_t slots[kFarSlots];
};

// Where layouts change all the time, to ask costs more than it gives: mostly not done from kUnsteady on. What a hit takes back: see Effort.
inline constexpr uint8_t kUnsteady = 5, kMostUnsteady = 15;
inline constexpr uint8_t kNoLayout = 255;   // what was seen here has none: a signal trampoline, too many frames
inline constexpr uint8_t kSure = 8;
// After so many firsts nobody is asked for a fingerprint that nobody will know: walked at once, until a walk finds a known stack.
inline constexpr uint8_t kManyFirsts = 64;
inline constexpr uint8_t kStrange = 254;

// mark of the place (32 bits, odd) << 32 | way (1 bit) | version (8 bits) << 23 | flags | slots of each kind (6 bits each, see Words)
// way: a bit of the place's key if the place can be asked the quick way, for then one comparison tells that and whose place it is; else that bit
// turned over.
inline constexpr uint64_t kWay = uint64_t{1} << 31;
inline constexpr uint64_t kVersionBits = uint64_t{0xff} << 23;
inline constexpr uint64_t kUsesRbp = 1 << 18;    // the caller's rbp is one of the words
inline constexpr uint64_t kMore = 1 << 19;       // more than return addresses
inline constexpr uint64_t kFar = 1 << 20;        // more slots than kNearSlots
inline constexpr uint64_t kOthers = 1 << 21;     // the place has had other layouts too, in other lines of its group
inline constexpr uint64_t kSlow = 1 << 22;       // not to be asked the quick way: see is_slow
inline constexpr uint64_t kCountBits = (1 << 18) - 1;
struct SlotRanges {
  uint32_t returns, chained, all;   // where each kind's slots end
};
inline uint64_t counts_of(uint32_t returns, uint32_t chained, uint32_t values) { return returns | chained << 6 | values << 12; }
inline uint32_t return_slots(uint64_t meta) { return meta & 63; }
inline SlotRanges ranges_of(uint64_t meta) {
  uint32_t returns = return_slots(meta), chained = returns + (meta >> 6 & 63);
  return {returns, chained, chained + uint32_t(meta >> 12 & 63)};
}

// A place's lines are in a group of four, mostly in its first one.
inline constexpr uint32_t kGroupLines = 4;
struct alignas(kGroupLines * sizeof(Place)) Places {
  uint64_t mask;   // lines - 1, in bytes
  FarSlots* far;   // one for each
  alignas(kGroupLines * sizeof(Place)) Place places[];
  uint64_t size() const { return mask / sizeof(Place) + 1; }
  bool has(const Place& p) const { return &p >= places && &p < places + size(); }
  Place& at(uint64_t key) { return *reinterpret_cast<Place*>(reinterpret_cast<address>(places) + (key >> 33 & mask)); }
};
inline Place& line_of(Place& first, uint32_t i) { return *reinterpret_cast<Place*>(reinterpret_cast<address>(&first) ^ i * sizeof(Place)); }
TIDEMARK_OWN std::atomic<Places*> places;

TIDEMARK_INLINE uint64_t place_key(address pc, address sp) {
  return (pc + std::rotl(sp - reinterpret_cast<address>(__builtin_thread_pointer()), 32)) * 0x9E3779B97F4A7C15ull;
}
// Mark and way of a quick place.
TIDEMARK_INLINE uint64_t quick_bits(uint64_t key) { return key << 24 | uint64_t{1} << 32; }
TIDEMARK_INLINE bool is_of(uint64_t meta, uint64_t key) { return !((meta ^ quick_bits(key)) >> 32); }
TIDEMARK_INLINE bool is_quick(uint64_t meta, uint64_t key) { return !((meta ^ quick_bits(key)) >> 31); }

// Of such a stack all words up to its top can be read. Where a coroutine's or an alternate one ends, nobody tells.
TIDEMARK_INLINE bool on_own_stack(const base::ThreadState& t, address sp) { return t.last_word - sp <= t.stack_span; }
// For what is asked of any stack. Coroutines' lie anywhere, and those that do the same begin at the same part of a page, mostly: so one finds what another put.
inline uint64_t any_place_key(address pc, address sp) {
  if (on_own_stack(base::thread_state, sp)) return place_key(pc, sp);
  return (pc + std::rotl(sp % format::kPageBytes, 32)) * 0x9E3779B97F4A7C15ull;
}

// Sum of the place's key and of the present stack's words as its layout has them. False: it cannot be read here.
bool sum_at(const Place& p, uint64_t meta, uint64_t key, const Caller& caller, uint64_t& sum);
// The same, for places whose slots are all near, with AES, on the thread's own stack, whose top is so many bytes above sp.
template <class Rbp>
TIDEMARK_INLINE bool near_sum_at(const Place& p, uint64_t meta, uint64_t key, address sp, uint64_t above, Rbp rbp, uint64_t& sum) {
  uint64_t most = above / 8;
  AesSum h(key);
  if (!h.add<Words::kReturns>(p.slots, 0, return_slots(meta), sp, most)) return false;
  if (TIDEMARK_UNLIKELY(meta & kMore)) {
    uint64_t m = meta;
    __asm__ volatile("" : "+r"(m));   // what this needs is worked out here, not kept
    if (m & kUsesRbp) h.add_rbp(rbp() - sp);
    if (!h.add<Words::kChained>(p.slots, ranges_of(m).returns, ranges_of(m).chained, sp, most)) return false;
    __asm__ volatile("" : "+r"(m));
    if (!h.add<Words::kValues>(p.slots, ranges_of(m).chained, ranges_of(m).all, sp, most)) return false;
  }
  sum = h.value();
  return true;
}

// The stack it last was, if that has this sum; else 0. `meta`: as it was before the sum was taken.
TIDEMARK_INLINE uint32_t last_stack(const Place& p, uint64_t meta, uint64_t sum) {
  base::compiler_barrier();
  uint64_t entry = p.last.load(std::memory_order_relaxed);
  bool is_last = !((entry ^ sum) >> 24) && p.last_low.load(std::memory_order_relaxed) == uint32_t(sum);
  return TIDEMARK_LIKELY(is_last && p.meta.load(std::memory_order_relaxed) == meta) ? stack_in(entry) : 0;
}
// One store each: a reader may see one of them.
inline void remember_last(Place& p, uint64_t sum, uint32_t stack) {
  p.last_low.store(uint32_t(sum), std::memory_order_relaxed);
  p.last.store(stack_entry(sum, stack), std::memory_order_relaxed);
}

// Where some take turns. 0: its fingerprint is not known.
TIDEMARK_INLINE uint32_t stack_in_turn(Place& p, uint64_t sum) {
  uint32_t stack = known_stack(fingerprint_of(sum, p.layout));
  // Few are written down as the last: all threads write to one line.
  if (TIDEMARK_UNLIKELY(stack && !(++base::thread_state.victim & 3))) remember_last(p, sum, stack);
  return stack;
}

TIDEMARK_OWN bool ask_slowly;   // no place is asked the quick way: there is no AES, or stacks are checked
inline bool is_slow(const Place& p, uint64_t meta) { return ask_slowly || meta & kFar || p.unsteady.load(std::memory_order_relaxed); }
void settle_way(Place& p);   // after such a thing has changed
// From the first line alone, which is here already, where the answer is yes.
inline bool is_steady(const Place& p, uint64_t meta) { return !(meta & kSlow) || !p.unsteady.load(std::memory_order_relaxed); }
inline void note_hit(Place& p) {
  if (is_steady(p, p.meta.load(std::memory_order_relaxed))) return;
  uint32_t u = p.unsteady.load(std::memory_order_relaxed), back = effort_of(base::thread_state).takes_back;
  p.unsteady.store(uint8_t(u > back && u <= kMostUnsteady ? u - back : 0), std::memory_order_relaxed);
  if (u <= back) settle_way(p);
}
inline void note_failure(Place& p) {
  uint8_t u = p.unsteady.load(std::memory_order_relaxed);
  if (u < kMostUnsteady) p.unsteady.store(u + 1, std::memory_order_relaxed);
  if (!u) settle_way(p);
}

void note_first(Place& p);    // a walk found a stack never seen before
void no_stranger(Place& p);   // one that is known

// What a place knows first; nullptr: nothing. `home`: its first line.
inline Place* find_place(Place& home, uint64_t key) {
  for (uint32_t i = 0; i < kGroupLines; i++)
    if (Place& p = line_of(home, i); is_of(p.meta.load(std::memory_order_acquire), key)) return &p;
  return nullptr;
}
// The same, where it is not in its home: often enough, it is put there.
Place* find_away(Place& home, uint64_t key);
void prefer(Place& first, Place& other);   // two lines of one place change roles

// After a look-up by other means: the present stack, which is this one. It is learnt at once (`now`), or if others like it come.
// Of one that was never seen before, and may never be again, the fingerprint is not kept yet; one that has no path has no layout.
void note_stack(const Caller& caller, uint64_t key, uint32_t stack, bool now, Sight sight);

void check_places(bool on);   // on: places are asked the slow way only, where stacks are checked
// Whether sums are taken by AES where the processor has it, as is usual. From the next start on.
void use_aes(bool wanted);
bool start_places();   // fresh, empty (also in a child of fork); false: no memory
void empty_places();   // see empty_caches

}  // namespace tidemark::stacks
