// First level of a look-up, by place: (pc, sp) of a hook's caller. For a place, the layouts of stacks seen there (fingerprint.h) are known, one
// or some, and which stack each last was; known_stacks.h knows all stacks by fingerprint. Shared by all threads, without locks: a layout that
// changes while it is read gives a fingerprint that is nobody's, or is noticed.
#pragma once
#include <atomic>
#include <bit>

#include "preload/base/common.h"
#include "preload/base/thread_state.h"
#include "preload/stacks/fingerprint.h"

namespace tidemark::stacks {

inline constexpr uint32_t kNearSlots = 13, kFarSlots = 16;

// One layout of a place. Five slots are in its first line, as many as most have; what is more than kNearSlots is in the table's `far`.
struct alignas(128) Place {
  std::atomic<uint64_t> meta;       // see below; 0: nothing known, or just being written
  std::atomic<uint64_t> last;       // the stack it was last: upper 40 bits of its fingerprint | StackRecord
  std::atomic<uint32_t> last_low;   // the fingerprint's lower 32
  std::atomic<uint8_t> unsteady;    // 0 to kMostUnsteady: how often of late its layout was another's; or kNoLayout
  std::atomic<uint8_t> vain;        // look-ups that found nothing
  std::atomic<uint8_t> same;        // how often in a row a closer look at such a stack found the same layout; up to kSure
  uint64_t slots[kNearSlots];       // of return addresses, then of values
};
static_assert(sizeof(Place) == 128);
struct FarSlots {
  uint64_t slots[kFarSlots];
};

// Where layouts change all the time, to ask costs more than it gives: mostly not done from kUnsteady on. A hit takes back two failures.
inline constexpr uint8_t kUnsteady = 5, kMostUnsteady = 15;
inline constexpr uint8_t kNoLayout = 255;   // what was seen here has none: a signal trampoline, too many frames
inline constexpr uint8_t kSure = 8;

// mark of the place (32 bits, odd) << 32 | version (8 bits) << 24 | kOthers | slots of values (7 bits) << 16 | of return addresses (8 bits) << 8
// | kUsesRbp | kHasValues | kFar, or the slots of return addresses once more
inline constexpr uint64_t kUsesRbp = 1 << 7;     // the caller's rbp is one of the words
inline constexpr uint64_t kHasValues = 1 << 6;
inline constexpr uint64_t kFar = 1 << 5;         // more slots than kNearSlots
inline constexpr uint64_t kOthers = 1 << 23;     // the place has had other layouts too, in other lines of its group
inline uint32_t near_returns(uint64_t meta) { return meta & 31; }
inline uint32_t return_slots(uint64_t meta) { return meta >> 8 & 0xff; }
inline uint32_t value_slots(uint64_t meta) { return meta >> 16 & 0x7f; }

// A place's lines are in a group of four, mostly in its first one.
inline constexpr uint32_t kGroupLines = 4;
struct alignas(kGroupLines * sizeof(Place)) Places {
  uint64_t mask;   // lines - 1
  FarSlots* far;   // one for each
  alignas(kGroupLines * sizeof(Place)) Place places[];
  Place& at(uint64_t key) { return places[key >> 40 & mask]; }
};
inline Place& line_of(Place& first, uint32_t i) { return *reinterpret_cast<Place*>(reinterpret_cast<address>(&first) ^ i * sizeof(Place)); }
TIDEMARK_OWN std::atomic<Places*> places;

TIDEMARK_INLINE uint64_t place_key(address pc, address sp) {
  return (pc + std::rotl(sp - reinterpret_cast<address>(__builtin_thread_pointer()), 32)) * 0x9E3779B97F4A7C15ull;
}
inline uint32_t place_mark(uint64_t key) { return uint32_t(key >> 8) | 1; }
TIDEMARK_INLINE bool is_of(uint64_t meta, uint64_t key) { return uint32_t(meta >> 32) == place_mark(key); }

inline uint64_t stack_entry(uint64_t fingerprint, uint32_t stack) { return (fingerprint & ~uint64_t{0xffffff}) | stack; }
inline uint32_t stack_in(uint64_t entry) { return uint32_t(entry & 0xffffff); }

// Of such a stack all words up to its top can be read. Where a coroutine's or an alternate one ends, nobody tells.
TIDEMARK_INLINE bool on_own_stack(const base::ThreadState& t, address sp) { return sp - t.stack_low < t.stack_bytes; }

// Fingerprint of the present stack as the place's layout has it. False: it cannot be read here.
bool far_fingerprint(const Place& p, uint64_t meta, uint64_t key, const Caller& caller, uint64_t& fingerprint);
TIDEMARK_INLINE bool fingerprint_at(const Place& p, uint64_t meta, uint64_t key, const Caller& caller, uint64_t& fingerprint) {
  const base::ThreadState& t = base::thread_state;
  address sp = caller.sp;
  if (TIDEMARK_UNLIKELY(!on_own_stack(t, sp))) return false;
  if (TIDEMARK_UNLIKELY(meta & kFar)) return far_fingerprint(p, meta, key, caller, fingerprint);
  address last = t.stack_top - 8;
  uint64_t h = key;
  const uint64_t* slot = p.slots;
  for (const uint64_t* end = slot + near_returns(meta); slot < end; slot++)
    if (!add_returns(h, slot, sp, last)) return false;
  if (TIDEMARK_UNLIKELY(meta & (kHasValues | kUsesRbp))) {
    if (meta & kUsesRbp) h += (caller.rbp - sp) * kRbpFactor;
    for (const uint64_t* end = slot + value_slots(meta); slot < end; slot++)
      if (!add_values(h, slot, sp, last)) return false;
  }
  fingerprint = finished(h);
  return true;
}

// The stack it last was, if that has this fingerprint; else 0. `meta`: as it was before the fingerprint was taken.
TIDEMARK_INLINE uint32_t last_stack(const Place& p, uint64_t meta, uint64_t fingerprint) {
  base::compiler_barrier();
  uint64_t entry = p.last.load(std::memory_order_relaxed);
  bool is_last = !((entry ^ fingerprint) >> 24) && p.last_low.load(std::memory_order_relaxed) == uint32_t(fingerprint);
  return TIDEMARK_LIKELY(is_last && p.meta.load(std::memory_order_relaxed) == meta) ? stack_in(entry) : 0;
}
// One store each: a reader may see one of them.
inline void remember_last(Place& p, uint64_t fingerprint, uint32_t stack) {
  p.last_low.store(uint32_t(fingerprint), std::memory_order_relaxed);
  p.last.store(stack_entry(fingerprint, stack), std::memory_order_relaxed);
}

inline void note_hit(Place& p) {
  uint8_t u = p.unsteady.load(std::memory_order_relaxed);
  if (u) p.unsteady.store(u > 2 ? u - 2 : 0, std::memory_order_relaxed);
}
inline void note_failure(Place& p) {
  uint8_t u = p.unsteady.load(std::memory_order_relaxed);
  if (u < kMostUnsteady) p.unsteady.store(u + 1, std::memory_order_relaxed);
}

// What a place knows first; nullptr: nothing. `home`: its first line.
inline Place* find_place(Place& home, uint64_t key) {
  for (uint32_t i = 0; i < kGroupLines; i++)
    if (Place& p = line_of(home, i); is_of(p.meta.load(std::memory_order_acquire), key)) return &p;
  return nullptr;
}
void prefer(Place& first, Place& other);   // two lines of one place change roles

// After a look-up by other means: the present stack, which is this one. It is learnt at once (`now`), or if others like it come.
void note_stack(const Caller& caller, uint64_t key, uint32_t stack, bool now);

bool start_places();   // fresh, empty (also in a child of fork); false: no memory
void empty_places();   // see empty_caches

}  // namespace tidemark::stacks
