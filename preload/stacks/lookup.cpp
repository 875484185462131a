#include "preload/stacks/lookup.h"

#include "preload/stacks/rules.h"
#include "preload/stacks/walk.h"

namespace tidemark::stacks {
using namespace format;
namespace {

// Sizes of the first four frames as they really are, as far as they are plain or frame-pointer frames under 2 KiB.
uint32_t true_sizes(address pc, address sp, address rbp) {
  uint32_t sizes = 0;
  for (uint32_t i = 0; i < 4; i++) {
    Rule rule = rule_of(pc);
    if (kind_of(rule) != kRuleRsp && !is_frame_pointer_rule(rule)) break;
    address was = sp;
    bool signal;
    if (!step_checked(rule, pc, sp, rbp, signal) || sp - was > 255 * 8) break;
    sizes |= uint32_t(sp - was) / 8 << 8 * i;
    if (!pc) break;
  }
  return sizes;
}

TIDEMARK_COLD uint32_t miss(const Lookup& k, uint32_t guessed, uint32_t tag) {
  uint32_t sizes = true_sizes(k.pc, k.sp, k.rbp);
  k.level->size(k.place).store((k.place >> 16 << 32) | sizes, std::memory_order_relaxed);
  if (sizes != guessed) {
    tag = leaf_key(k.place, k.sp, sizes);
    if (uint32_t id = cache_get(leaf_cache, tag, k.pc, k.sp, &k.rbp)) return id;
  }
  base::count(kCacheMisses);
  widen_first_level(base::header().coverage[kStacks]);
  uint32_t leaf = walk(k.pc, k.sp, k.rbp);
  if (leaf != kNoNode) cache_put(leaf_cache, tag, leaf, uint32_t(base::header().coverage[kStacks] * 3 / 2));
  return leaf;
}
}  // namespace

__attribute__((noinline)) uint32_t find_leaf(Lookup& k) {
  uint32_t leaf = 0, sizes = ~0u, tag = 0;
  uint64_t guess = k.level->size(k.place).load(std::memory_order_relaxed);
  if (TIDEMARK_LIKELY(uint32_t(guess >> 32) == uint32_t(k.place >> 16))) {
    sizes = uint32_t(guess);
    if (!may_read_key(k.sp, sizes)) sizes = 0;
    tag = leaf_key(k.place, k.sp, sizes);
    uint32_t hops = 0, asked = tag;
    leaf = cache_get(leaf_cache, tag, k.pc, k.sp, &k.rbp, nullptr, &hops);
    // A hit behind redirects is promoted now and then, so that the frequent stack of a key is found at once.
    if (leaf && hops && !(++base::thread_state.victim & 63)) cache_put(leaf_cache, asked, leaf, 0);
  }
  if (TIDEMARK_UNLIKELY(!leaf)) leaf = miss(k, sizes, tag);
  if (leaf != kNoNode) k.first->store((k.place >> 16 << 32) | leaf, std::memory_order_relaxed);
  return leaf;
}

}  // namespace tidemark::stacks
