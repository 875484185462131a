#include "preload/stacks/places.h"

#include <algorithm>

#include "preload/base/memory.h"
#include "preload/base/spin_lock.h"
#include "preload/base/store.h"
#include "preload/stacks/known_stacks.h"
#include "preload/stacks/layout.h"

namespace tidemark::stacks {

constinit std::atomic<Places*> places{nullptr};
constinit const uint64_t kFactors[3] = {0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0xD6E8FEB86659FD93};

namespace {
constexpr uint32_t kFirstPlaces = 64, kMostPlaces = 16384, kGrowth = 8;
constexpr uint64_t kWriting = uint64_t{2} << 32;   // a mark that no place has
constinit base::SpinLock growing;
constinit std::atomic<uint32_t> used{0};

Places* new_table(uint32_t size) {
  void* table = base::small_table(alignof(Places) + sizeof(Places) + size * sizeof(Place));
  size_t far = size * sizeof(FarSlots);
  auto* more = static_cast<FarSlots*>(size == kFirstPlaces ? base::small_table(far) : base::map_private(far));   // few are ever written to
  if (!table || !more) return nullptr;
  auto* t = reinterpret_cast<Places*>((reinterpret_cast<address>(table) + alignof(Places) - 1) & ~(alignof(Places) - 1));
  t->mask = size - 1;
  t->far = more;
  return t;
}

// Anew and empty: a place is learnt again in less time than it takes to say where it went.
void widen() {
  Places* old = places.load();
  if (old->mask + 1 >= kMostPlaces || !growing.try_lock()) return;
  if (places.load() == old)
    if (Places* wider = new_table(std::min(uint32_t(old->mask + 1) * kGrowth, kMostPlaces))) {
      used.store(0);
      places.store(wider, std::memory_order_release);
    }
  growing.unlock();
}

const uint64_t* slot_at(const Places& t, const Place& p, uint32_t i) {
  return i < kNearSlots ? &p.slots[i] : &t.far[&p - t.places].slots[i - kNearSlots];
}

Place* place_of(Places& t, uint64_t key) {
  for (Place* p : {&t.at(key), &other_place(t.at(key))})
    if (is_of(p->meta.load(std::memory_order_acquire), key)) return p;
  return nullptr;
}

// For a place that is not known: a free one, else now and then another's.
Place* room_for(Places& t, uint64_t key) {
  for (Place* p : {&t.at(key), &other_place(t.at(key))})
    if (!p->meta.load(std::memory_order_relaxed)) return p;
  uint32_t turn = base::thread_state.victim++;
  if (turn & 3) return nullptr;
  return turn & 4 ? &t.at(key) : &other_place(t.at(key));
}

uint64_t meta_of(const Layout& l, uint64_t key, uint64_t before) {
  uint64_t version = ((before >> 24) + 1) & 0xff;
  uint64_t kinds = (l.rbp ? kUsesRbp : 0) | (l.value_slots ? kHasValues : 0);
  bool far = l.return_slots + l.value_slots > kNearSlots;
  return uint64_t{place_mark(key)} << 32 | version << 24 | l.value_slots << 16 | l.return_slots << 8 | kinds | (far ? kFar : l.return_slots);
}

bool has_layout(const Places& t, const Place& p, uint64_t meta, const Layout& l) {
  constexpr uint64_t kVersion = uint64_t{0xff} << 24;
  if ((meta ^ meta_of(l, 0, 0)) << 32 & ~(kVersion << 32)) return false;
  for (uint32_t i = 0; i < l.return_slots + l.value_slots; i++)
    if (*slot_at(t, p, i) != l.slots[i]) return false;
  return true;
}

// Two threads may want to: one does.
bool set_layout(Places& t, Place& p, uint64_t key, const Layout& l, uint8_t unsteady) {
  uint64_t before = p.meta.load(std::memory_order_relaxed);
  if (before == kWriting || !p.meta.compare_exchange_strong(before, kWriting, std::memory_order_acquire)) return false;
  p.unsteady.store(unsteady, std::memory_order_relaxed);
  p.same.store(0, std::memory_order_relaxed);
  for (uint32_t i = 0; i < l.return_slots + l.value_slots; i++) *const_cast<uint64_t*>(slot_at(t, p, i)) = l.slots[i];
  p.meta.store(meta_of(l, key, before), std::memory_order_release);
  if (!before) used.fetch_add(1, std::memory_order_relaxed);
  return true;
}

}  // namespace

__attribute__((noinline)) bool far_fingerprint(const Place& p, uint64_t meta, uint64_t key, const Caller& caller, uint64_t& fingerprint) {
  const Places& t = *places.load(std::memory_order_acquire);
  auto index = size_t(&p - t.places);
  if (index > t.mask) return false;   // another table's by now
  const uint64_t *slot = p.slots, *near_end = p.slots + kNearSlots, *far = t.far[index].slots;
  address sp = caller.sp, last = base::thread_state.stack_top - 8;
  uint64_t h = key;
  for (uint32_t n = return_slots(meta); n; n--) {
    if (!add_returns(h, slot++, sp, last)) return false;
    if (slot == near_end) slot = far;
  }
  if (meta & kUsesRbp) h += (caller.rbp - sp) * kRbpFactor;
  for (uint32_t n = value_slots(meta); n; n--) {
    if (!add_values(h, slot++, sp, last)) return false;
    if (slot == near_end) slot = far;
  }
  fingerprint = finished(h);
  return true;
}

Place* find_place(uint64_t key) { return place_of(*places.load(std::memory_order_acquire), key); }

void note_stack(const Caller& caller, uint64_t key, uint32_t leaf, uint32_t stack, bool now) {
  if (!on_own_stack(base::thread_state, caller.sp)) return;
  Places* t = places.load(std::memory_order_acquire);
  if (used.load(std::memory_order_relaxed) * 2 > t->mask) {
    widen();
    t = places.load(std::memory_order_acquire);
  }
  Place* p = place_of(*t, key);
  uint64_t meta = p ? p->meta.load(std::memory_order_acquire) : 0;
  if (p) {   // a closer look is not free, and the next stack may be as the ones before
    uint8_t vain = p->vain.load(std::memory_order_relaxed);
    p->vain.store(vain + 1, std::memory_order_relaxed);
    if (!now && !(vain & 1)) return;
  } else if (!(p = room_for(*t, key))) {
    return;
  }
  Layout l;
  if (!lay_out(leaf, caller, l)) {
    if (!is_of(meta, key)) set_layout(*t, *p, key, Layout{}, kNoLayout);
    return;
  }
  if (!is_of(meta, key)) {
    if (!set_layout(*t, *p, key, l, 0)) return;
  } else if (has_layout(*t, *p, meta, l)) {
    note_hit(*p);
    uint8_t same = p->same.load(std::memory_order_relaxed);
    if (same < kSure) p->same.store(same + 1, std::memory_order_relaxed);
  } else {
    uint8_t unsteady = p->unsteady.load(std::memory_order_relaxed);
    if (!set_layout(*t, *p, key, l, unsteady == kNoLayout ? 0 : unsteady)) return;
  }
  uint64_t fingerprint;
  meta = p->meta.load(std::memory_order_acquire);
  if (!is_of(meta, key) || !fingerprint_at(*p, meta, key, caller, fingerprint) || p->meta.load(std::memory_order_acquire) != meta) return;
  know_stack(fingerprint, stack);
  remember_last(*p, fingerprint, stack);
}

bool start_places() {
  growing.reset();
  used.store(0);
  Places* t = new_table(kFirstPlaces);
  if (!t) return false;
  places.store(t);
  return true;
}

void empty_places() {
  base::SpinGuard guard(growing);
  Places& t = *places.load(std::memory_order_acquire);
  for (uint64_t i = 0; i <= t.mask; i++) {
    Place& p = t.places[i];
    p.last_low.store(0, std::memory_order_relaxed);
    p.last.store(0, std::memory_order_relaxed);
    uint64_t meta = p.meta.load(std::memory_order_relaxed);
    if (meta != kWriting) p.meta.compare_exchange_strong(meta, 0);
  }
}

}  // namespace tidemark::stacks
