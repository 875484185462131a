#include "preload/stacks/walk.h"

#include <sched.h>

#include <atomic>

#include "preload/stacks/cache.h"
#include "preload/stacks/frame_tree.h"
#include "preload/stacks/modules.h"
#include "preload/stacks/rules.h"

namespace tidemark::stacks {
using namespace format;
namespace {

constexpr uint64_t kLargeFrame = 2048;

struct Frame {
  uint64_t word;   // pc | size << 48
  uint16_t rule;   // low byte 0: may share a node
  bool large;
  uint32_t join;   // key for the join cache, or 0
  uint32_t generation;
  uint32_t node;   // that begins with this frame, where it may be joined; or 0
};
struct Walked {
  Frame* frames;
  uint32_t count;
  uint32_t outer;   // node that goes on outside of them
};

// Whether a frame that was stepped over once may be stepped over again without a look at where each step leads: its size is fixed, and it
// led to a call. Where a large one is among a group, the proof looks at the end of them all first, so that unwind data that is wrong and yet
// led to a call, by chance, cannot lead far.
bool may_group(uint64_t bytes, Rule next) { return bytes < 0xffff * 8 && !(next & kUncalled); }

// Whether a step led to what is no code. JIT compilers do change return addresses, so between frames without unwind data a pc that
// nobody called from is taken for one; those steps are looked at each time anyway.
bool leads_nowhere(uint16_t kind, Rule next) {
  return next == (kRuleHard | kUncalled) || (next == (kRuleGuess | kUncalled) && kind != kRuleGuess);
}

// Which joins there are at a pc is asked of its rule first: that line is here already, a set of the join cache is mostly not.
constexpr uint32_t kAnyJoin = ~0u;
uint32_t join_bit(uint32_t key) { return 1u << (key >> 27); }

void note_join(const Frame& f, uint32_t id) {
  if (RuleEntry* e = find_rule(f.word & kPcMask)) {
    uint32_t joins = e->joins.load(std::memory_order_relaxed), bit = join_bit(f.join);
    if (!(joins & bit)) e->joins.store(joins | bit, std::memory_order_relaxed);   // what two threads lose, another walk finds
  }
  cache_put(join_cache, f.join, id, node_count());
}

// Adds the frame at pc and steps over it. False: the walk ends here, and w.outer says how.
bool add_frame(Walked& w, Rule& rule, uint32_t& joins, address& pc, address& sp, address& rbp, bool& signal) {
  uint16_t kind = kind_of(rule);
  Frame& f = w.frames[w.count++];
  f.word = (rule & ~kPcMask) | (pc & kPcMask);
  f.rule = uint16_t(rule & ~kUncalled);
  f.generation = generation_at(pc + signal);
  f.large = false;   // the buffer is another walk's
  if (kind == kRuleEnd) {
    f.rule &= 0xff00;
    return false;   // outer stays kRootNode
  }
  address was = sp;
  bool after_signal = signal, stepped = kind != kRuleHard && step_checked(rule, pc, sp, rbp, signal);
  if (!stepped && kind == kRuleGuess) return false;   // no frame pointer to follow: this is all there is
  const RuleEntry* known = stepped && pc ? find_rule(pc + signal) : nullptr;
  Rule next = known ? rule_in(*known) : stepped && pc ? add_rule(pc + signal, !signal) : 0;
  joins = known ? known->joins.load(std::memory_order_relaxed) : kAnyJoin;
  if (!stepped || leads_nowhere(kind, next)) {
    f.rule = kRuleHard;   // never stepped over again, so that a proof reads nothing that was refused here
    w.outer = kCutNode;
    return false;
  }
  if (!after_signal && sp > was && may_group(sp - was, next)) {
    f.large = sp - was >= kLargeFrame;
    if (kind == kRuleRsp) f.rule &= 0xff00;
    if (is_frame_pointer_rule(rule)) {
      f.word = (f.word & kPcMask) | (sp - was) / 8 << 48;
      f.rule = kRuleFramePointerGroup;
    }
  }
  if (!pc) return false;   // how a stack's first function is entered by hand: outer stays kRootNode
  // The cut is tied to the stack's address, so that deep stacks still share their outer part.
  if (w.count >= kMaxDepth || (w.count >= kMinDepth && (was ^ sp) >> 12)) {
    w.outer = kCutNode;
    return false;
  }
  rule = next;
  return true;
}

void collect(Walked& w, address pc, address sp, address rbp) {
  bool signal = false;
  Rule rule = rule_of(pc);
  uint32_t joins;
  w.frames[0].join = 0;   // of the innermost frame the leaf cache was asked
  while (add_frame(w, rule, joins, pc, sp, rbp, signal)) {
    uint32_t& join = w.frames[w.count].join;
    join = 0;
    if (signal) continue;
    uint32_t hops = 0;   // redirects lead to a join more slowly than a walk
    join = join_key(pc, sp);
    if (!(joins & join_bit(join))) continue;
    if (uint32_t id = cache_get(join_cache, join, pc, sp, &rbp, hops)) {
      w.outer = id;
      return;
    }
  }
}

bool lone(const Frame& f) { return f.rule & 0xff; }
bool may_share(const Frame& a, const Frame& b) {
  return !lone(a) && (a.rule == kRuleFramePointerGroup) == (b.rule == kRuleFramePointerGroup) && a.generation == b.generation;
}

// How many of the outermost `i` frames share the next node.
uint32_t group_size(const Frame* f, uint32_t i) {
  if (lone(f[i - 1])) return 1;
  uint32_t k = 1;
  while (k < kFramesPerNode && k < i && may_share(f[i - 1 - k], f[i - 1])) k++;
  return k;
}

void fill(Node& n, const Frame* f, uint32_t k) {
  n.generation = f[0].generation;
  if (lone(f[0])) {
    n.words[0] = f[0].word;
    n.rule = f[0].rule;
    return;
  }
  uint64_t words = 0;
  for (uint32_t j = 0; j < k; j++) {
    n.words[kFramesPerNode - k + j] = f[j].word;
    words += f[j].word >> 48;
    if (f[j].large) n.rule |= kRuleLargeGroup;
    if (f[j].rule == kRuleFramePointerGroup) n.rule |= kRuleFramePointerGroup;
    else if (int8_t save = int8_t(f[j].rule >> 8)) n.rbp_save = int16_t(int64_t(words) + save);
  }
  for (uint32_t j = 0; j < kFramesPerNode - k; j++) n.words[j] = f[0].word & kPcMask;
}

uint32_t put_path(const Walked& w) {
  uint32_t id = w.outer;
  PathWriter path;
  for (uint32_t i = w.count; i;) {   // from the outside inwards
    uint32_t k = group_size(w.frames, i);
    Frame* innermost = &w.frames[i - k];
    Node n{};
    n.caller = id;
    fill(n, innermost, k);
    i -= k;
    id = path.put(n);
    if (id == kNoNode) return kNoNode;
    bool full = k == kFramesPerNode || lone(*innermost);
    innermost->node = innermost->join && full && !(n.generation & kNodeCut) ? id : 0;
  }
  return id;
}

// Joins are noted when the tree's lock is free again: their table may have to grow.
uint32_t insert(const Walked& w) {
  for (uint32_t i = 0; i < w.count; i++) w.frames[i].node = 0;
  uint32_t leaf = put_path(w);
  for (uint32_t i = w.count; i--;)
    if (w.frames[i].node) note_join(w.frames[i], w.frames[i].node);
  return leaf;
}

// A walk needs 12 KiB: too much for small stacks, so it borrows one of a few static buffers.
struct Buffer {
  std::atomic<bool> taken;
  Frame frames[kMaxDepth];
};
constexpr uint32_t kBuffers = 8;
constinit Buffer buffers[kBuffers]{};

Buffer& borrow() {
  for (uint32_t i = 0;; i++) {
    Buffer& b = buffers[i % kBuffers];
    if (!b.taken.load(std::memory_order_relaxed) && !b.taken.exchange(true, std::memory_order_acquire)) return b;
    if (i % kBuffers == kBuffers - 1) sched_yield();
  }
}
}  // namespace

uint32_t walk(address pc, address sp, address rbp) {
  Buffer& buffer = borrow();
  Walked w{buffer.frames, 0, kRootNode};
  collect(w, pc, sp, rbp);
  uint32_t leaf = insert(w);
  buffer.taken.store(false, std::memory_order_release);
  return leaf;
}

void reset_walk_buffers() {
  for (Buffer& b : buffers) b.taken.store(false, std::memory_order_relaxed);
}

uint32_t frames_of(uint32_t leaf, address* pcs, uint32_t max, bool& cut, uint32_t& trusted) {
  uint32_t n = 0;
  trusted = UINT32_MAX;
  uint32_t id = leaf;
  for (; id > kCutNode; id = base::line<Node>(id)->caller) {
    const Node& x = *base::line<Node>(id);
    uint16_t kind = x.rule & 0xff;
    if ((kind == kRuleGuess || kind == kRuleHard) && n < trusted) trusted = n;
    for (uint32_t i = 0; i < (kind ? 1 : kFramesPerNode); i++) {
      if (!kind && i + 1 != kFramesPerNode && !(x.words[i] >> 48)) continue;
      if (n < max) pcs[n] = x.words[i] & kPcMask;
      n++;
    }
  }
  cut = id == kCutNode;
  if (trusted > n) trusted = n;
  return n;
}

}  // namespace tidemark::stacks
