#include "preload/stacks/lookup.h"

#include "preload/stacks/known_stacks.h"
#include "preload/stacks/rules.h"
#include "preload/stacks/walk.h"

namespace tidemark::stacks {
using namespace format;
namespace {

constexpr uint32_t kMaxHops = 24, kFewHops = 2;
constexpr uint8_t kMostLuck = 8;

// Sizes of the first four frames as they really are, as far as they are plain or frame-pointer frames under 2 KiB.
uint32_t true_sizes(address pc, address sp, address rbp) {
  uint32_t sizes = 0;
  for (uint32_t i = 0; i < 4; i++) {
    Rule rule = rule_of(pc);
    if (kind_of(rule) != kRuleRsp && !is_frame_pointer_rule(rule)) break;
    address was = sp;
    bool signal, away = false;
    if (!step(rule, pc, sp, rbp, signal, away) || away || sp - was > 255 * 8) break;
    sizes |= uint32_t(sp - was) / 8 << 8 * i;
    if (is_no_code(pc)) break;
  }
  return sizes;
}

// Guess::sizes: 31 bits of the place << 33 | kDoubted | sizes. Where the last look showed other sizes, the next stack will mostly have others
// again: to step over four frames costs less than a search with a wrong key, whose lines are seldom in a cache.
constexpr uint64_t kDoubted = uint64_t{1} << 32;
Guess& guess_of(const Lookup& k) { return guesses.load(std::memory_order_acquire)->at(k.key); }
uint64_t place_bits(const Lookup& k) { return k.key << 16 >> 33; }
bool same_place(uint64_t noted, const Lookup& k) { return noted >> 33 == place_bits(k); }

uint32_t look_at_sizes(const Lookup& k) {
  uint32_t sizes = true_sizes(k.caller.pc, k.caller.sp, k.caller.rbp);
  uint64_t noted = guess_of(k).sizes.load(std::memory_order_relaxed);
  uint64_t now = place_bits(k) << 33 | (same_place(noted, k) && uint32_t(noted) != sizes ? kDoubted : 0) | sizes;
  if (now != noted) guess_of(k).sizes.store(now, std::memory_order_relaxed);
  return sizes;
}

TIDEMARK_COLD uint32_t miss(const Lookup& k) {
  base::count(kCacheMisses);
  widen_guesses(base::header().coverage[kStacks]);
  return walk(k.caller.pc, k.caller.sp, k.caller.rbp);
}
}  // namespace

// The two leaves proved here last. They may take turns: mostly left where they are, for all threads write to one line.
static uint32_t ask_guesses(const Lookup& k, uint64_t entry) {
  uint32_t latest = uint32_t(entry & 0xffffff), other = uint32_t(entry >> 24 & 0xffffff);
  Difference at;
  if (entry >> 48 != mark_of(k.key)) return 0;
  if (latest && prove(latest, k.caller.pc, k.caller.sp, &k.caller.rbp, at)) return latest;
  if (!other || !prove(other, k.caller.pc, k.caller.sp, &k.caller.rbp, at)) return 0;
  if (!(++base::thread_state.victim & 3))
    guess_of(k).leaves.store(entry >> 48 << 48 | uint64_t{latest} << 24 | other, std::memory_order_relaxed);
  return other;
}

// Follows redirects. Where stacks come that were never seen, they lead nowhere: after some vain searches only a few are followed, until one
// of the longer searches that are still made now and then finds something.
static uint32_t ask_cache(const Lookup& k, uint32_t sizes, uint32_t& tag) {
  tag = leaf_key(k.key, k.caller.sp, sizes);
  base::ThreadState& t = base::thread_state;
  uint32_t most = t.luck || !(++t.victim & 31) ? kMaxHops : kFewHops, left = most, asked = tag;
  uint32_t leaf = cache_get(leaf_cache, tag, k.caller.pc, k.caller.sp, &k.caller.rbp, left);
  uint32_t hops = most - left;
  if (hops >= kFewHops) {
    if (leaf) t.luck = kMostLuck;
    else if (t.luck) t.luck--;
  }
  // A hit behind redirects is promoted now and then, so that the frequent stack of a key is found at once.
  if (leaf && hops && !(++t.victim & 63)) cache_put(leaf_cache, asked, leaf, 0);
  return leaf;
}

static void note_leaf(const Lookup& k, uint64_t entry, uint32_t leaf) {
  uint64_t latest = entry >> 48 == mark_of(k.key) ? entry & 0xffffff : 0;
  guess_of(k).leaves.store(mark_of(k.key) << 48 | latest << 24 | leaf, std::memory_order_relaxed);
}

__attribute__((noinline)) uint32_t find_leaf(const Lookup& k) {
  uint64_t entry = guess_of(k).leaves.load(std::memory_order_relaxed);
  if (uint32_t leaf = ask_guesses(k, entry)) return leaf;
  uint64_t noted = guess_of(k).sizes.load(std::memory_order_relaxed);
  bool guessed = same_place(noted, k) && !(noted & kDoubted) && may_read_key(k.caller.sp, uint32_t(noted));
  uint32_t sizes = guessed ? uint32_t(noted) : look_at_sizes(k);
  uint32_t tag, leaf = ask_cache(k, sizes, tag);
  if (TIDEMARK_UNLIKELY(!leaf) && guessed) {
    uint32_t found = look_at_sizes(k);
    if (found != sizes) leaf = ask_cache(k, found, tag);
  }
  if (TIDEMARK_UNLIKELY(!leaf)) {
    leaf = miss(k);
    if (leaf != kNoNode) cache_put(leaf_cache, tag, leaf, uint32_t(base::header().coverage[kStacks] * 3 / 2));
  }
  if (leaf != kNoNode) note_leaf(k, entry, leaf);
  return leaf;
}

static uint32_t find_without_place(const Lookup& k, Sight& sight) {
  if (uint32_t stack = walk_to_stack(k.caller, sight)) return stack;
  uint32_t leaf = find_leaf({k.caller, any_place_key(k.caller.pc, k.caller.sp), k.home});
  return TIDEMARK_LIKELY(leaf != kNoNode) ? stack_of(leaf) : base::header().overflow_stack;
}

// The overflow record is noted like any other stack's: a region that is full stays full, and to ask again would be a walk each time.
static uint32_t find_and_note(const Lookup& k) {
  Sight sight;
  uint32_t stack = find_without_place(k, sight);
  note_stack(k.caller, k.key, stack, false, sight);
  return stack;
}

// Where the layout never changes, a fingerprint that nobody knows is a new stack's, which may never be seen again: it is not noted yet.
static uint32_t find_new(const Lookup& k, Place& place) {
  Sight sight;
  uint32_t stack = find_without_place(k, sight);
  if (sight == Sight::kFirst) {
    note_first(place);
  } else {
    no_stranger(place);
    note_stack(k.caller, k.key, stack, true, sight);
  }
  return stack;
}

// The layout that is asked first was not the right one. Where another is right most of the time, it is asked first from now on.
static uint32_t ask_other_layouts(const Lookup& k, Place& first) {
  uint64_t fingerprints[kGroupLines], sums[kGroupLines];
  Place* others[kGroupLines];
  uint32_t count = 0, stack = 0, turn = ++base::thread_state.victim;
  for (uint32_t i = 0; i < kGroupLines && !stack; i++) {
    Place& p = line_of(*k.home, i);
    uint64_t& sum = sums[count];
    uint64_t meta = p.meta.load(std::memory_order_acquire);
    if (&p == &first || !is_of(meta, k.key) || !sum_at(p, meta, k.key, k.caller, sum)) continue;
    stack = last_stack(p, meta, sum);
    fingerprints[count] = fingerprint_of(sum, p.layout);
    prefetch_known_stack(fingerprints[count]);
    others[count++] = &p;
  }
  uint32_t found = stack ? count - 1 : 0;
  while (!stack && found < count)
    if (!(stack = known_stack(fingerprints[found]))) found++;
  if (!stack) return 0;
  if (!(turn & 3)) remember_last(*others[found], sums[found], stack);
  if (!(turn & 7)) prefer(first, *others[found]);
  return stack;
}

__attribute__((noinline)) uint32_t find_unknown_stack(const Lookup& k, Place& place) {
  bool others = place.meta.load(std::memory_order_relaxed) & kOthers && place.unsteady.load(std::memory_order_relaxed) < kUnsteady / 2;
  uint32_t stack = others ? ask_other_layouts(k, place) : 0;
  if (!stack) return !others && place.same.load(std::memory_order_relaxed) == kSure ? find_new(k, place) : find_and_note(k);
  note_hit(place);
  return stack;
}

__attribute__((noinline)) uint32_t find_stack_in_turn(const Lookup& k, Place& place, uint64_t sum) {
  uint32_t stack = stack_in_turn(place, sum);
  if (!stack) return find_unknown_stack(k, place);
  note_hit(place);
  return stack;
}

__attribute__((noinline)) uint32_t find_left_alone(const Lookup& k) {
  if (!(++base::thread_state.victim & (effort_of(base::thread_state).asks - 1))) return find_stack_otherwise(k);
  lean_off(base::thread_state);
  Sight sight;
  return find_without_place(k, sight);
}

__attribute__((noinline)) uint32_t find_stack_otherwise(const Lookup& k) {
  Place* place = find_place(*k.home, k.key);
  uint8_t unsteady = place ? place->unsteady.load(std::memory_order_relaxed) : 0;
  if (unsteady == kStrange) return find_new(k, *place);
  if (unsteady < kUnsteady) {
    ask_again(k.key);
  } else if (!is_left_alone(k.key)) {
    leave_alone(k.key);
    return find_left_alone(k);
  }
  if (!place) return find_and_note(k);
  uint64_t sum, meta = place->meta.load(std::memory_order_acquire);
  if (!is_of(meta, k.key) || unsteady == kNoLayout || !sum_at(*place, meta, k.key, k.caller, sum)) return find_and_note(k);
  uint32_t stack = last_stack(*place, meta, sum);
  if (!stack) return find_stack_in_turn(k, *place, sum);
  note_hit(*place);
  return stack;
}

}  // namespace tidemark::stacks
