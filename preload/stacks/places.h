// First level of a look-up, by place: (pc, sp) of a hook's caller. A place knows the layout of the stacks seen there (fingerprint.h) and the
// stack it last was; known_stacks.h knows all stacks by fingerprint. Shared by all threads, without locks: a layout that changes while it is read
// gives a fingerprint that is nobody's, or is noticed.
#pragma once
#include <atomic>

#include "preload/base/common.h"
#include "preload/base/thread_state.h"
#include "preload/stacks/fingerprint.h"

namespace tidemark::stacks {

inline constexpr uint32_t kNearSlots = 4, kFarSlots = 24;

// One line; a layout with more slots goes on in the table's `far`.
struct alignas(64) Place {
  std::atomic<uint64_t> meta;       // see Meta; 0: nothing known, or just being written
  std::atomic<uint64_t> last;       // the stack it was last: upper 40 bits of its fingerprint | StackRecord
  std::atomic<uint32_t> last_low;   // the fingerprint's lower 32
  uint32_t seed;                    // of the layout: equal words elsewhere are another fingerprint
  uint16_t rbp_factor;              // odd where the caller's rbp is one of the words, else 0
  std::atomic<uint8_t> unsteady;    // 0 to kMostUnsteady: how often of late its layout was another's; or kNoLayout
  std::atomic<uint8_t> vain;        // look-ups that found nothing
  std::atomic<uint8_t> same;        // how often in a row a closer look at such a stack found the same layout; up to kSure
  uint64_t slots[kNearSlots];       // of return addresses, then of values
};
static_assert(sizeof(Place) == 64);
struct FarSlots {
  uint64_t slots[kFarSlots];
};

// Where layouts change all the time, to ask costs more than it gives: mostly not done from kUnsteady on. A hit takes back two failures.
inline constexpr uint8_t kUnsteady = 7, kMostUnsteady = 15;
inline constexpr uint8_t kNoLayout = 255;   // what was seen here has none: a signal trampoline, too many frames
inline constexpr uint8_t kSure = 8;

// version (16 bits) << 48 | mark of the place (16 bits, odd) << 32 | slots of values (8 bits) << 8 | slots of return addresses (8 bits)
inline uint32_t return_slots(uint64_t meta) { return meta & 0xff; }
inline uint32_t value_slots(uint64_t meta) { return meta >> 8 & 0xff; }
inline uint32_t slots_in(uint64_t meta) { return return_slots(meta) + value_slots(meta); }

struct alignas(2 * sizeof(Place)) Places {
  uint64_t mask;   // places - 1
  FarSlots* far;   // one for each place
  alignas(2 * sizeof(Place)) Place places[];
  Place& at(uint64_t key) { return places[key >> 40 & mask]; }
};
// The other one where a place may be that is not in its first.
inline Place& other_place(Place& p) { return *reinterpret_cast<Place*>(reinterpret_cast<address>(&p) ^ sizeof(Place)); }
TIDEMARK_OWN std::atomic<Places*> places;

TIDEMARK_INLINE uint64_t place_key(address pc, address sp) {
  return (pc * 0x9E3779B97F4A7C15ull) ^
         ((sp - reinterpret_cast<address>(__builtin_thread_pointer())) * 0xC2B2AE3D27D4EB4Full);
}
inline uint64_t place_mark(uint64_t key) { return (key >> 24 & 0xffff) | 1; }
TIDEMARK_INLINE bool is_of(uint64_t meta, uint64_t key) { return (meta >> 32 & 0xffff) == place_mark(key); }

inline uint64_t stack_entry(uint64_t fingerprint, uint32_t stack) { return (fingerprint & ~uint64_t{0xffffff}) | stack; }
inline uint32_t stack_in(uint64_t entry) { return uint32_t(entry & 0xffffff); }
TIDEMARK_INLINE bool is_entry(uint64_t entry, uint32_t low, uint64_t fingerprint) {
  return !((entry ^ fingerprint) >> 24) && low == uint32_t(fingerprint);
}

// Of such a stack all words up to its top can be read. Where a coroutine's or an alternate one ends, nobody tells.
TIDEMARK_INLINE bool on_own_stack(const base::ThreadState& t, address sp) { return sp - t.stack_low < t.stack_top - t.stack_low; }

// Fingerprint of the present stack as the place's layout has it. False: it cannot be read here.
bool far_fingerprint(const Place& p, uint64_t meta, uint64_t key, const Caller& caller, uint64_t& fingerprint);
TIDEMARK_INLINE bool fingerprint_at(const Place& p, uint64_t meta, uint64_t key, const Caller& caller, uint64_t& fingerprint) {
  address sp = caller.sp;
  const base::ThreadState& t = base::thread_state;
  if (TIDEMARK_UNLIKELY(!on_own_stack(t, sp))) return false;
  if (TIDEMARK_UNLIKELY(slots_in(meta) > kNearSlots)) return far_fingerprint(p, meta, key, caller, fingerprint);
  address last = t.stack_top - 8;
  uint64_t h = key + p.seed + (caller.rbp - sp) * p.rbp_factor;
  const uint64_t* slot = p.slots;
  for (uint32_t n = return_slots(meta); n; n--)
    if (!add_returns(h, slot++, sp, last)) return false;
  for (uint32_t n = value_slots(meta); TIDEMARK_UNLIKELY(n); n--)
    if (!add_values(h, slot++, sp, last)) return false;
  fingerprint = finished(h);
  return true;
}

// One store each: a reader may see one of them.
inline void remember_last(Place& p, uint64_t fingerprint, uint32_t stack) {
  p.last_low.store(uint32_t(fingerprint), std::memory_order_relaxed);
  p.last.store(stack_entry(fingerprint, stack), std::memory_order_relaxed);
}

TIDEMARK_INLINE void note_hit(Place& p) {
  uint8_t u = p.unsteady.load(std::memory_order_relaxed);
  if (TIDEMARK_UNLIKELY(u)) p.unsteady.store(u > 2 ? u - 2 : 0, std::memory_order_relaxed);
}
inline void note_failure(Place& p) {
  uint8_t u = p.unsteady.load(std::memory_order_relaxed);
  if (u < kMostUnsteady) p.unsteady.store(u + 1, std::memory_order_relaxed);
}

Place* find_place(uint64_t key);   // nullptr: there is none for it
// After a look-up by other means: the present stack, which is this one. It is learnt at once (`now`), or if others like it come.
void note_stack(const Caller& caller, uint64_t key, uint32_t leaf, uint32_t stack, bool now);

bool start_places();   // fresh, empty (also in a child of fork); false: no memory
void empty_places();   // see empty_caches

}  // namespace tidemark::stacks
