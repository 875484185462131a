#include "preload/stacks/places.h"

#include <cpuid.h>

#include <algorithm>

#include "preload/base/memory.h"
#include "preload/base/spin_lock.h"
#include "preload/base/store.h"
#include "preload/stacks/known_stacks.h"
#include "preload/stacks/layout.h"
#include "preload/stacks/left_alone.h"

namespace tidemark::stacks {

constinit std::atomic<Places*> places{nullptr};
constinit bool ask_slowly = false;
alignas(64) constinit std::atomic<uint16_t> left_alone[kLeftAlone]{};

namespace {
constexpr uint32_t kFirstPlaces = 16, kMostPlaces = 8192, kGrowth = 4, kMostDenied = 64;
constexpr uint8_t kHomecoming = 64;   // of so many looks that find a place away from its home, one puts it there
constexpr uint64_t kWriting = uint64_t{2} << 32, kEmptied = uint64_t{4} << 32;   // marks that no place has; the latter: it was to be emptied while it was written
bool is_held(uint64_t meta) { return meta == kWriting || meta == kEmptied; }
constinit std::atomic<uint32_t> emptyings{0};   // how many threads empty all places just now
constinit bool have_aes = false;   // fingerprints are taken by AesSum, else by ProductSum
constinit bool asked_processor = false, processor_has_aes = false, aes_wanted = true;
constinit bool checked = false;
constinit base::SpinLock growing;
constinit std::atomic<uint32_t> used{0}, denied{0};   // lines; look-ups of places that found no room for one

Places* new_table(uint32_t size) {
  void* table = base::small_table(alignof(Places) + sizeof(Places) + size * sizeof(Place));
  size_t far = size * sizeof(FarSlots);
  auto* more = static_cast<FarSlots*>(size == kFirstPlaces ? base::small_table(far) : base::map_private(far));   // few are ever written to
  if (!table || !more) return nullptr;
  auto* t = reinterpret_cast<Places*>((reinterpret_cast<address>(table) + alignof(Places) - 1) & ~(alignof(Places) - 1));
  t->mask = (size - 1) * sizeof(Place);
  t->far = more;
  return t;
}

// Anew and empty: a place is learnt again in less time than it takes to say where it went.
void widen() {
  Places* old = places.load();
  if (old->size() >= kMostPlaces || !growing.try_lock()) return;
  if (places.load() == old)
    if (Places* wider = new_table(std::min(uint32_t(old->size()) * kGrowth, kMostPlaces))) {
      used.store(0);
      denied.store(0);
      places.store(wider, std::memory_order_release);
      base::discard_table(old, sizeof(Places) + old->size() * sizeof(Place));
      base::discard_table(old->far, old->size() * sizeof(FarSlots));
    }
  growing.unlock();
}

const uint64_t* slot_at(const Places& t, const Place& p, uint32_t i) {
  return i < kNearSlots ? &p.slots[i] : &t.far[&p - t.places].slots[i - kNearSlots];
}

// A line of the group that is free; else now and then another place's, or nullptr.
Place* room_for(Place& home, uint64_t key) {
  for (uint32_t i = 0; i < kGroupLines; i++)
    if (!line_of(home, i).meta.load(std::memory_order_relaxed)) return &line_of(home, i);
  uint32_t turn = base::thread_state.victim++;
  Place& p = line_of(home, turn / 4 % kGroupLines);
  return turn & 3 || is_of(p.meta.load(std::memory_order_relaxed), key) ? nullptr : &p;
}

constexpr uint64_t kVersionStep = kVersionBits & -kVersionBits;
uint64_t next_version(uint64_t before) { return (before + kVersionStep) & kVersionBits; }

// Of a quick place; see as_it_is.
uint64_t meta_of(const Layout& l, uint64_t key, uint64_t before) {
  uint64_t more = l.rbp || l.counts >> 6 ? kMore : 0, far = l.all > kNearSlots ? kFar : 0;
  return (quick_bits(key) & (~uint64_t{0} << 31)) | next_version(before) | far | more | (l.rbp ? kUsesRbp : 0) | l.counts;
}
// With the way that is right for the place.
uint64_t as_it_is(const Place& p, uint64_t meta) {
  bool slow = is_slow(p, meta);
  return slow == bool(meta & kSlow) ? meta : meta ^ (kSlow | kWay);
}

bool has_layout(const Places& t, const Place& p, uint64_t meta, const Layout& l) {
  if ((meta ^ meta_of(l, 0, 0)) & (kCountBits | kUsesRbp)) return false;
  for (uint32_t i = 0; i < l.all; i++)
    if (*slot_at(t, p, i) != l.slots[i]) return false;
  return true;
}

// Two threads may want to: one does.
bool set_layout(Places& t, Place& p, uint64_t key, const Layout& l) {
  uint64_t before = p.meta.load(std::memory_order_relaxed);
  if (is_held(before) || !p.meta.compare_exchange_strong(before, kWriting, std::memory_order_acquire)) return false;
  if (!is_of(before, key) || p.unsteady.load(std::memory_order_relaxed) > kMostUnsteady) p.unsteady.store(0, std::memory_order_relaxed);
  p.same.store(0, std::memory_order_relaxed);
  p.firsts.store(0, std::memory_order_relaxed);
  for (uint32_t i = 0; i < l.all; i++) *const_cast<uint64_t*>(slot_at(t, p, i)) = l.slots[i];
  p.layout = layout_hash(l.slots, l.all, l.counts);
  p.last_low.store(0, std::memory_order_relaxed);
  p.last.store(0, std::memory_order_relaxed);   // its sum was another layout's
  p.meta.store(as_it_is(p, meta_of(l, key, before)), std::memory_order_release);
  if (!before) used.fetch_add(1, std::memory_order_relaxed);
  return true;
}

}  // namespace

// Of a range of a place's slots, of which the first kNearSlots are in its lines.
template <Words kind, class Sum>
static bool add_range(Sum& sum, const uint64_t* near, const uint64_t* far, uint32_t first, uint32_t end, address sp, uint64_t most) {
  uint32_t near_end = std::max(first, std::min(end, kNearSlots)), far_first = std::min(end, std::max(first, kNearSlots));
  return sum.template add<kind>(near, first, near_end, sp, most) && sum.template add<kind>(far - kNearSlots, far_first, end, sp, most);
}
template <class Sum>
static bool sum_with(const uint64_t* near, const uint64_t* far, uint64_t meta, uint64_t key, const Caller& caller, uint64_t& sum) {
  address sp = caller.sp;
  uint64_t most = (base::thread_state.last_word - sp) / 8;
  SlotRanges r = ranges_of(meta);
  if (r.all > kMostSlots) return false;   // another thread's layout, half written
  Sum h(key);
  if (!add_range<Words::kReturns>(h, near, far, 0, r.returns, sp, most)) return false;
  if (meta & kUsesRbp) h.add_rbp(caller.rbp - sp);
  if (!add_range<Words::kChained>(h, near, far, r.returns, r.chained, sp, most) || !add_range<Words::kValues>(h, near, far, r.chained, r.all, sp, most)) return false;
  sum = h.value();
  return true;
}
static bool sum_by(const uint64_t* near, const uint64_t* far, uint64_t meta, uint64_t key, const Caller& caller, uint64_t& sum) {
  return have_aes ? sum_with<AesSum>(near, far, meta, key, caller, sum) : sum_with<ProductSum>(near, far, meta, key, caller, sum);
}
bool sum_at(const Place& p, uint64_t meta, uint64_t key, const Caller& caller, uint64_t& sum) {
  if (TIDEMARK_UNLIKELY(!on_own_stack(base::thread_state, caller.sp))) return false;
  if (TIDEMARK_LIKELY(!(meta & kFar) && have_aes)) return near_sum_at(p, meta, key, caller.sp, base::thread_state.last_word - caller.sp, [&] { return caller.rbp; }, sum);
  const Places& t = *places.load(std::memory_order_acquire);
  if (!t.has(p)) return false;   // another table's by now
  if (meta & kFar) __builtin_prefetch(&t.far[&p - t.places]);
  return sum_by(p.slots, t.far[&p - t.places].slots, meta, key, caller, sum);
}

void settle_way(Place& p) {
  uint64_t meta = p.meta.load(std::memory_order_relaxed), now = as_it_is(p, meta);
  if (meta && !is_held(meta) && now != meta) p.meta.compare_exchange_strong(meta, now, std::memory_order_acq_rel);
}

void note_first(Place& p) {
  uint8_t firsts = p.firsts.load(std::memory_order_relaxed);
  if (firsts == kManyFirsts) return;
  p.firsts.store(firsts + 1, std::memory_order_relaxed);
  if (firsts + 1 < kManyFirsts) return;
  p.unsteady.store(kStrange, std::memory_order_relaxed);
  settle_way(p);
}
void no_stranger(Place& p) {
  p.firsts.store(0, std::memory_order_relaxed);
  if (p.unsteady.load(std::memory_order_relaxed) != kStrange) return;
  p.unsteady.store(0, std::memory_order_relaxed);
  settle_way(p);
}

static void forget_last(Place& p) {
  p.last_low.store(0, std::memory_order_relaxed);
  p.last.store(0, std::memory_order_relaxed);
}
// Of a line that is held.
static void let_go(Place& p, uint64_t meta) {
  uint64_t held = kWriting;
  if (TIDEMARK_LIKELY(p.meta.compare_exchange_strong(held, meta, std::memory_order_acq_rel))) return;
  forget_last(p);   // what has come from the other line meanwhile
  p.meta.store(0, std::memory_order_release);
}
// False: another thread is writing to one of them, or has, or empties all: what goes from a line that it has not come to yet to one that it has been at
// would stay. If it begins now, it finds both held.
static bool hold_lines(Place& a, Place& b, uint64_t as, uint64_t bs) {
  if (is_held(as) || !a.meta.compare_exchange_strong(as, kWriting)) return false;
  const bool both = !is_held(bs) && b.meta.compare_exchange_strong(bs, kWriting);
  if (both && TIDEMARK_LIKELY(!emptyings.load())) return true;
  if (both) let_go(b, bs);
  let_go(a, as);
  return false;
}

template <class T>
static void swap_values(std::atomic<T>& a, std::atomic<T>& b) {
  b.store(a.exchange(b.load(std::memory_order_relaxed), std::memory_order_relaxed), std::memory_order_relaxed);
}
// Both are held.
static void swap_layouts(Places& t, Place& a, Place& b, bool far) {
  std::swap_ranges(a.slots, a.slots + kNearSlots, b.slots);
  std::swap(a.layout, b.layout);
  if (far) std::swap(t.far[&a - t.places], t.far[&b - t.places]);
  swap_values(a.last, b.last);
  swap_values(a.last_low, b.last_low);
  swap_values(a.same, b.same);
}

void prefer(Place& first, Place& other) {
  Places& t = *places.load(std::memory_order_acquire);
  uint64_t had = first.meta.load(std::memory_order_relaxed), has = other.meta.load(std::memory_order_relaxed);
  if (had >> 32 != has >> 32 || !t.has(first)) return;
  if (!hold_lines(first, other, had, has)) return;
  swap_layouts(t, first, other, (had | has) & kFar);
  let_go(first, as_it_is(first, (has & ~kVersionBits) | next_version(had) | kOthers));
  let_go(other, as_it_is(other, (had & ~kVersionBits) | next_version(has)));
}

// Of the lines' places all that is theirs changes, too.
static bool swap_places(Place& a, Place& b) {
  Places& t = *places.load(std::memory_order_acquire);
  if (!t.has(a)) return false;
  uint64_t as = a.meta.load(std::memory_order_relaxed), bs = b.meta.load(std::memory_order_relaxed);
  if (!hold_lines(a, b, as, bs)) return false;
  swap_layouts(t, a, b, (as | bs) & kFar);
  swap_values(a.unsteady, b.unsteady);
  swap_values(a.vain, b.vain);
  swap_values(a.firsts, b.firsts);
  let_go(a, bs ? (bs & ~kVersionBits) | next_version(as) : 0);
  let_go(b, as ? (as & ~kVersionBits) | next_version(bs) : 0);
  return true;
}

__attribute__((noinline)) Place* find_away(Place& home, uint64_t key) {
  Place* p = find_place(home, key);
  if (!p || p == &home || ++base::thread_state.away % kHomecoming) return p;
  return swap_places(home, *p) ? &home : p;
}

// The line of the place that has this layout, or has got it now, perhaps `room`; nullptr: none.
static Place* line_with(Places& t, Place& home, Place* room, uint64_t key, const Layout& l, bool& replaced) {
  Place *mine[kGroupLines], *first = nullptr;
  uint32_t count = 0;
  replaced = false;
  for (uint32_t i = 0; i < kGroupLines; i++) {
    Place& p = line_of(home, i);
    uint64_t meta = p.meta.load(std::memory_order_acquire);
    if (!is_of(meta, key)) continue;
    if (has_layout(t, p, meta, l)) return &p;
    mine[count++] = &p;
  }
  bool useless = count && mine[0]->unsteady.load(std::memory_order_relaxed) == kNoLayout;
  Place* p = useless ? mine[0] : room;
  if ((replaced = !p && count)) p = mine[base::thread_state.victim++ % count];
  if (!p || !set_layout(t, *p, key, l)) return nullptr;
  if (count && (first = find_place(home, key))) {
    uint64_t meta = first->meta.load(std::memory_order_relaxed);
    if (is_of(meta, key) && !(meta & kOthers)) first->meta.compare_exchange_strong(meta, meta | kOthers);
  }
  return p;
}

void note_stack(const Caller& caller, uint64_t key, uint32_t stack, bool now, Sight sight) {
  if (!on_own_stack(base::thread_state, caller.sp)) return;
  Places* t = places.load(std::memory_order_acquire);
  if (used.load(std::memory_order_relaxed) * 3 >= t->size() || denied.load(std::memory_order_relaxed) > kMostDenied) {
    widen();
    t = places.load(std::memory_order_acquire);
  }
  Place &home = t->at(key), *first = find_place(home, key);
  if (first) {   // a closer look is not free, and the next stack may be as the ones before
    uint8_t vain = first->vain.load(std::memory_order_relaxed);
    first->vain.store(vain + 1, std::memory_order_relaxed);
    if (!now && (vain + 1) & (effort_of(base::thread_state).looks - 1)) return note_failure(*first);
  }
  Place* room = room_for(home, key);
  if (!first && !room) {
    denied.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  Layout l;
  if (sight == Sight::kNoPath || !lay_out(caller, l)) {
    if (first) note_failure(*first);
    else if (set_layout(*t, *room, key, Layout{})) {
      room->unsteady.store(kNoLayout, std::memory_order_relaxed);
      settle_way(*room);
    }
    return;
  }
  bool replaced;
  Place* p = line_with(*t, home, room, key, l, replaced);
  if (!p) return;
  if (first && replaced) note_failure(*first);
  else if (first) note_hit(*first);   // known, or there was room to learn it
  if (p == first) {
    uint8_t same = p->same.load(std::memory_order_relaxed);
    if (same < kSure) p->same.store(same + 1, std::memory_order_relaxed);
  }
  uint64_t sum;   // by the layout that was found: the line may have another's by now
  if (!sum_by(l.slots, l.slots + kNearSlots, meta_of(l, key, 0), key, caller, sum)) return;
  if (sight == Sight::kKnown) know_stack(fingerprint_of(sum, layout_hash(l.slots, l.all, l.counts)), stack, base::header().coverage[format::kStacks]);
  remember_last(*p, sum, stack);
}

// Once: a virtual machine's host answers cpuid, which takes microseconds, and a child of fork keeps what it has learnt.
static void ask_processor() {
  uint32_t a, b, c = 0, d;
  if (asked_processor) return;
  processor_has_aes = __get_cpuid(1, &a, &b, &c, &d) && c & bit_AES;
  asked_processor = true;
}

void use_aes(bool wanted) { aes_wanted = wanted; }

bool start_places() {
  ask_processor();
  have_aes = processor_has_aes && aes_wanted;
  ask_slowly = checked || !have_aes;
  growing.reset();
  emptyings.store(0);
  used.store(0);
  denied.store(0);
  Places* t = new_table(kFirstPlaces);
  if (!t) return false;
  places.store(t);
  return true;
}

void check_places(bool on) {
  checked = on;
  ask_slowly = on || !have_aes;
  if (places.load()) empty_places();
}

void empty_places() {
  base::SpinGuard guard(growing);
  Places& t = *places.load(std::memory_order_acquire);
  emptyings.fetch_add(1);
  for (uint64_t i = 0; i < t.size(); i++) {
    Place& p = t.places[i];
    forget_last(p);
    uint64_t meta = p.meta.load(std::memory_order_relaxed);
    while (meta && !p.meta.compare_exchange_weak(meta, is_held(meta) ? kEmptied : 0)) {}
  }
  emptyings.fetch_sub(1);
}

}  // namespace tidemark::stacks
