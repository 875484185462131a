#include "preload/stacks/walk.h"

#include <atomic>

#include "preload/stacks/cache.h"
#include "preload/stacks/frame_tree.h"
#include "preload/stacks/known_stacks.h"
#include "preload/stacks/modules.h"
#include "preload/stacks/path.h"
#include "preload/stacks/rules.h"
#include "preload/stacks/walk_buffer.h"

namespace tidemark::stacks {
using namespace format;
namespace {

constexpr uint64_t kLargeFrame = 2048;
constexpr uint64_t kMostGroupWords = INT16_MAX;   // Node::rbp_save counts them
constexpr uint32_t kUnknownGeneration = ~0u;
constexpr address kNowhere = ~address{0};   // further out than all

struct Walked {
  Frame* frames;    // from the innermost on
  uint32_t count = 0;
  uint32_t outer = kRootNode;   // node that goes on outside of them
  Path* path = nullptr;         // the thread's, where it can be asked
  uint32_t left = 0;            // its frames that may still be met
  address left_at = kNowhere;   // Return::at of the innermost one of these
  bool met = false;             // the last of these
  uint32_t generation = any_module_gone() ? kUnknownGeneration : 0;   // of the new frames, until they get nodes
  bool ended = false;           // at the stack's end, and certainly
  address end_at = 0;           // see Path
  uint32_t more = 0;            // frames of the path that were copied behind the new ones, for they share a node with them
};

// Whether a frame that was stepped over once may share a node with others, whose proof looks at where they end and no closer: its size is fixed, it
// led to a call, and it saves rbp within itself, as unwind data that is wrong may not say.
bool may_group(Rule rule, uint64_t bytes, Rule next) {
  auto save = int8_t(rule >> 8);
  return bytes / 8 <= kMostGroupWords && !(next & kUncalled) && (is_frame_pointer_rule(rule) || (save <= 0 && uint64_t(-save) <= bytes / 8));
}

// Whether a step led to what is no code. JIT compilers do change return addresses, so between frames without unwind data a pc that
// nobody called from is taken for one; those steps are looked at each time anyway.
bool leads_nowhere(uint16_t kind, Rule next) {
  return next == (kRuleHard | kUncalled) || (next == (kRuleGuess | kUncalled) && kind != kRuleGuess);
}

// Which joins there are at a pc is asked of its rule first: that line is here already, a set of the join cache is mostly not.
constexpr uint32_t kAnyJoin = ~0u;
uint32_t join_bit(uint32_t key) { return 1u << (key >> 27); }

void note_join(const Frame& f, uint32_t id) {
  uint32_t key = join_key(f.word & kPcMask, f.sp);
  if (RuleEntry* e = find_rule(f.word & kPcMask)) {
    uint32_t joins = e->joins.load(std::memory_order_relaxed), bit = join_bit(key);
    if (!(joins & bit)) e->joins.store(joins | bit, std::memory_order_relaxed);   // what two threads lose, another walk finds
  }
  cache_put(join_cache, key, id, node_count());
}

// What a frame's rule reads besides its return address; rbp and sp as the frame was entered.
void note_words(Frame& f, Rule rule, address cfa) {
  auto offset = address((int64_t(rule) >> 48) * 8);
  uint16_t kind = kind_of(rule);
  bool guessed = kind == kRuleGuess && !offset;
  f.uses_rbp = kind == kRuleRbp || kind == kRuleDeref || guessed;
  address cfa_at = kind == kRuleDeref ? f.rbp + offset : 0;
  auto save = int8_t(rule >> 8);
  address rbp_at = 0;
  if (guessed || save == kRbpAtRbp) rbp_at = f.rbp;
  else if (save && kind != kRuleGuess) rbp_at = cfa + address(int64_t{8} * save);
  address saved = rbp_at ? rbp_at - (f.sp - 8) : 0;
  f.kept.rbp_saved = int32_t(saved);
  if (save == kRbpAtRbp) f.uses_rbp = true;
  address last = base::thread_state.last_word;
  auto within = [&](address a) { return a >= f.sp && a <= last; };
  f.fixed = kind != kRuleSignal && within(cfa - 8) && (!rbp_at || within(rbp_at)) && is_near(saved) && (!cfa_at || within(cfa_at));
}

// Where a walk is.
struct Cursor {
  Rule rule;
  address pc, sp, rbp;
  bool away = false;   // see step.h
};

// Adds the frame at pc and steps over it. False: the walk ends here, and w.outer says how.
__attribute__((noinline)) bool add_frame(Walked& w, Cursor& c, uint32_t& joins, bool& signal) {
  auto& [rule, pc, sp, rbp, away] = c;
  const bool was_away = away;
  uint16_t kind = kind_of(rule);
  Frame& f = w.frames[w.count++];
  f = {};   // the buffer was another walk's
  f.sp = sp, f.rbp = rbp;
  f.word = (rule & ~kPcMask) | (pc & kPcMask);
  f.kept.rule = uint16_t(rule & ~kFlags);
  f.kept.after_signal = signal;
  f.kept.generation = w.generation;
  if (kind == kRuleEnd) {
    f.kept.rule &= 0xff00;
    w.ended = f.fixed = !signal;
    return false;   // outer stays kRootNode
  }
  if (kind == kRuleHard) {
    f.kept.rule = kRuleHard;
    w.ended = f.fixed = !signal;
    w.outer = kCutNode;
    return false;
  }
  bool stepped = step(rule, pc, sp, rbp, signal, away);
  if (!stepped && kind == kRuleGuess) {   // no frame pointer to follow: this is all there is
    if (rule & kMayBegin) f.kept.rule |= kRuleUncalled;
    return false;
  }
  const bool ended = stepped && is_no_code(pc);
  const RuleEntry* known = stepped && !ended ? find_rule(pc + signal) : nullptr;
  Rule next = known ? rule_in(*known) : stepped && !ended ? add_rule(pc + signal, !signal) : 0;
  joins = known ? known->joins.load(std::memory_order_relaxed) : kAnyJoin;
  const bool was_pushed = rule & kUncalled && kind != kRuleGuess;   // see rules.cpp, pushed_rule
  if (was_pushed && !ended && (!stepped || next & (kUncalled | kMayBegin) || kind_of(next) == kRuleHard)) {
    f.word &= kPcMask, f.kept.rule = 0;   // a coroutine's begin: outer stays kRootNode
    return false;
  }
  if (!stepped || leads_nowhere(kind, next)) {
    f.kept.rule = kRuleHard;   // never stepped over again, so that a proof reads nothing that was refused here
    w.outer = kCutNode;
    return false;
  }
  const bool strays = away || was_away;
  if (w.path) note_words(f, rule, sp);
  if (strays) f.fixed = false;
  if (!strays && !f.kept.after_signal && sp > f.sp && may_group(rule, sp - f.sp, next)) {
    if (kind == kRuleRsp) f.kept.rule &= 0xff00;
    if (is_frame_pointer_rule(rule)) {
      f.word = (f.word & kPcMask) | (sp - f.sp) / 8 << 48;
      f.kept.rule = kRuleFramePointerGroup;
    }
  }
  if (ended) {   // how a stack's first function is entered by hand: outer stays kRootNode
    w.ended = f.fixed;
    w.end_at = sp - 8;
    return false;
  }
  // The cut is tied to the stack's address, so that deep stacks still share their outer part.
  if (w.count >= kMaxDepth || (w.count >= kMinDepth && (f.sp ^ sp) >> 12)) {
    w.outer = kCutNode;
    return false;
  }
  rule = next;
  return true;
}

inline address at_of(const Path& p, uint32_t left) { return left ? p.returned(left - 1).at : kNowhere; }

// Whether the frame that is entered like this is one of the path's. Frames themselves are looked at only where all else is right.
TIDEMARK_INLINE bool meets_path(const Path& p, uint32_t& left, address& left_at, address pc, address sp, address rbp) {
  while (left_at < sp - 8) left_at = at_of(p, --left);
  if (left_at != sp - 8 || (p.returned(left - 1).pc ^ pc) & (kLookCloser - 1)) return false;
  return !p.frame(left - 1).needs_rbp || p.rbp(left - 1) == rbp;
}
inline bool meets_path(Walked& w, address pc, address sp, address rbp) { return w.met = meets_path(*w.path, w.left, w.left_at, pc, sp, rbp); }

// A plain rule that is not among the recent ones; 0 and its whole rule: it is not plain. False: there is none, or it is of a pc that nobody called from.
__attribute__((noinline)) bool find_whole_rule(address pc, uint32_t& plain, Rule& whole) {
  const RuleEntry* e = pc ? find_rule(pc) : nullptr;
  if (!e || (whole = rule_in(*e)) & kUncalled) return false;
  plain = plain_rule(whole);
  if (plain && !(++base::thread_state.victim & 3)) remember_rule(pc, plain);   // now and then: those that are frequent stay there
  return true;
}

// What add_frame does, for plain frames within the thread's own stack, as long as there are such: most are. True: the path is met. `rule`: that at c,
// 0 if it is not plain. c.rule is not read before, and is whole afterwards unless the path is met: few walks get so far that it is needed.
TIDEMARK_INLINE bool go_on_plainly(Walked& w, Cursor& c, uint32_t rule) {
  static_assert(kPlainWords * 8 == kLargeFrame);
  address last = base::thread_state.last_word;
  const Path& path = *w.path;
  Frame *f = w.frames + w.count, *most = w.frames + kMinDepth;
  const uint32_t generation = w.generation;
  uint32_t left = w.left;
  address left_at = w.left_at;
  auto end = [&](bool met) {
    if (rule && !met) c.rule = whole_rule(rule);
    w.count = uint32_t(f - w.frames), w.left = left, w.left_at = left_at, w.met = met;
    return met;
  };
  while (rule && f < most) {
    address cfa, rbp_at = 0, rbp = c.rbp;
    uint16_t kept;
    if (rule & kPlainByRbp) {
      if (TIDEMARK_UNLIKELY(rbp - c.sp >= kLargeFrame - 16)) return end(false);
      cfa = rbp + 16;
      rbp_at = rbp;
      kept = kRuleFramePointerGroup;
    } else {
      uint64_t below = rule >> 8 & 31;
      cfa = c.sp + uint64_t{rule & 0xff} * 8;
      if (below) rbp_at = cfa - below * 8;
      kept = uint16_t(-below << 8);
    }
    if (TIDEMARK_UNLIKELY(cfa - 8 > last)) return end(false);
    if (rbp_at) rbp = base::load(rbp_at);
    address pc = base::load(cfa - 8);
    uint32_t next = recent_rule(pc);
    Rule whole = 0;
    if (TIDEMARK_UNLIKELY(!next) && !find_whole_rule(pc, next, whole)) return end(false);
    *f++ = {.kept = {.sum = 0, .node = 0, .generation = generation, .rbp_away = 0, .rbp_saved = rbp_at ? int32_t(rbp_at - c.sp + 8) : 0, .words = 0,
                     .rule = kept, .after_signal = false, .needs_rbp = false},
            .sp = c.sp, .rbp = c.rbp, .word = (c.pc & kPcMask) | (cfa - c.sp) / 8 << 48, .uses_rbp = bool(rule & kPlainByRbp), .fixed = true, .group = 0};
    c = {whole, pc, cfa, rbp, false};
    rule = next;
    if (meets_path(path, left, left_at, pc, cfa, rbp)) return end(true);
  }
  return end(false);
}
__attribute__((noinline)) bool collect_plain(Walked& w, Cursor& c, uint32_t rule) {
  Cursor own = c;   // nobody else knows its address, so it is in registers
  bool met = go_on_plainly(w, own, rule);
  c = own;
  return met;
}

// From the innermost frame on until the path is met, or a join is found.
void collect(Walked& w, const Caller& caller, bool ask_joins) {
  if (w.path && meets_path(w, caller.pc, caller.sp, caller.rbp)) return;
  bool signal = false;
  uint32_t plain = recent_rule(caller.pc), joins = 0;
  Rule whole = 0;
  if (TIDEMARK_UNLIKELY(!plain)) whole = rule_of(caller.pc), plain = plain_rule(whole);
  Cursor c{plain && ask_joins ? whole_rule(plain) : whole, caller.pc, caller.sp, caller.rbp};
  for (;; plain = plain_rule(c.rule)) {
    if (!ask_joins && !signal && !c.away && collect_plain(w, c, plain)) return;
    if (!add_frame(w, c, joins, signal)) return;
    if (signal) continue;
    if (w.path && meets_path(w, c.pc, c.sp, c.rbp)) return;
    if (!ask_joins || c.away) continue;
    uint32_t hops = 0;   // redirects lead to a join more slowly than a walk
    uint32_t join = join_key(c.pc, c.sp);
    if (!(joins & join_bit(join))) continue;
    if (uint32_t id = cache_get(join_cache, join, c.pc, c.sp, &c.rbp, hops)) {
      w.outer = id;
      return;
    }
  }
}

bool lone(const Frame& f) { return f.kept.rule & 0xff; }
bool may_share(const Frame& a, const Frame& b) {
  return !lone(a) && (a.kept.rule == kRuleFramePointerGroup) == (b.kept.rule == kRuleFramePointerGroup) && a.kept.generation == b.kept.generation;
}

// How many of the outermost `i` frames share the next node.
uint32_t group_size(const Frame* f, uint32_t i) {
  if (lone(f[i - 1])) return 1;
  uint32_t k = 1;
  uint64_t words = f[i - 1].word >> 48;
  while (k < kFramesPerNode && k < i && may_share(f[i - 1 - k], f[i - 1]) && (words += f[i - 1 - k].word >> 48) <= kMostGroupWords) k++;
  return k;
}

void fill(Node& n, const Frame* f, uint32_t k) {
  n.generation = f[0].kept.generation;
  if (lone(f[0])) {
    n.words[0] = f[0].word;
    n.rule = f[0].kept.rule;
    return;
  }
  uint64_t words = 0;
  for (uint32_t j = 0; j < k; j++) {
    n.words[kFramesPerNode - k + j] = f[j].word;
    words += f[j].word >> 48;
    if (f[j].kept.rule == kRuleFramePointerGroup) n.rule |= kRuleFramePointerGroup;
    else if (int8_t save = int8_t(f[j].kept.rule >> 8)) n.rbp_save = int16_t(int64_t(words) + save);
  }
  for (uint32_t j = 0; j < kFramesPerNode - k; j++) n.words[j] = f[0].word & kPcMask;
}

// Hashes the frames that are not the path's yet.
void hash_frames(Walked& w) {
  auto* room = reinterpret_cast<uint32_t*>(w.frames + w.count);
  PathHash hash = w.met ? PathHash{w.path->frame(w.left - 1).sum, w.left}
                        : path_hash(w.outer, room, kMostPathFrames * sizeof(Frame) / sizeof(uint32_t));
  for (uint32_t i = w.count; i--;) {
    hash.add(w.frames[i].word);
    w.frames[i].kept.sum = hash.sum;
  }
}

// Which frames share nodes; fetches where these would be found.
void group(Frame* frames, uint32_t count) {
  for (uint32_t i = count; i;) {   // from the outside inwards, as in put_path
    uint32_t k = group_size(frames, i);
    frames[i - 1].group = uint8_t(k);
    i -= k;
    prefetch_index(hash_of_sum(frames[i].kept.sum));
  }
}

void learn_generations(Frame* frames, uint32_t count) {
  for (Frame* f = frames; f < frames + count; f++)
    if (f->kept.generation == kUnknownGeneration) f->kept.generation = generation_at((f->word & kPcMask) + f->kept.after_signal);
}

PathFrame& known_frame(Walked& w, uint32_t outwards) { return w.path->frame(w.left - 1 - outwards); }

// As much of it as a node is made of.
Frame for_node(const Path& p, uint32_t i) {
  const PathFrame& known = p.frame(i);
  return {known, 0, 0, (p.returned(i).pc & kPcMask) | uint64_t{known.words} << 48, false, false, 0};
}

// Before a path is put into the tree: its frames' generations and nodes. Where the path was met, its frames up to the first one that begins a node go
// along.
void prepare(Walked& w) {
  if (w.met) {
    uint32_t id = 0;
    for (; w.more < w.left && !(id = known_frame(w, w.more).node); w.more++) w.frames[w.count + w.more] = for_node(*w.path, w.left - 1 - w.more);
    w.outer = id ? id : w.path->outer;
  }
  uint32_t all = w.count + w.more;
  if (!w.generation && any_module_gone()) {   // the first one of all, noticed by this walk, which has found other code in its place
    w.generation = kUnknownGeneration;
    for (uint32_t i = 0; i < all; i++) w.frames[i].kept.generation = kUnknownGeneration;
  }
  if (w.generation) learn_generations(w.frames, all);
  group(w.frames, all);
}

// Each frame that begins a full group gets its node.
uint32_t put_path(Frame* frames, uint32_t count, uint32_t id) {
  PathWriter path;
  for (uint32_t i = count; i;) {   // from the outside inwards
    uint32_t k = frames[i - 1].group;
    Frame* innermost = &frames[i - k];
    Node n{};
    n.caller = id;
    fill(n, innermost, k);
    i -= k;
    id = path.put(n, hash_of_sum(innermost->kept.sum));
    if (id == kNoNode) return kNoNode;
    bool full = k == kFramesPerNode || lone(*innermost);
    if (full && !innermost->kept.after_signal) innermost->kept.node = id;
  }
  return id;
}

// Of one new stack in sixteen, chosen by its hash, in which sizes are: who has thousands for each frame will be seen.
void note_sizes(const Walked& w) {
  if (!w.count || hash_of_sum(w.frames[0].kept.sum) >> 60) return;
  for (const Frame* f = w.frames; f < w.frames + w.count; f++)
    if (f->kept.rule == kRuleFramePointerGroup) note_size(f->word & kPcMask, f->word >> 48);
}

uint32_t insert(Walked& w) {
  note_sizes(w);
  prepare(w);
  for (uint32_t i = w.count + w.more; i;) prefetch_node(hash_of_sum(w.frames[i -= w.frames[i - 1].group].kept.sum));
  uint32_t leaf = put_path(w.frames, w.count + w.more, w.outer);
  for (uint32_t i = 0; i < w.more; i++) {
    known_frame(w, i).node = w.frames[w.count + i].kept.node;
    known_frame(w, i).generation = w.frames[w.count + i].kept.generation;
  }
  return leaf;
}

// Whether the stack is known to its end.
bool whole(const Walked& w) { return w.path && (w.met || w.ended); }

// The path is now this stack's, as far out as frames are fixed.
void remember(const Walked& w) {
  Path& p = *w.path;
  p.count = w.met ? w.left : 0;
  base::compiler_barrier();   // a handler may jump out of here
  if (!w.met) {
    p.epoch = path_epoch();
    p.end_at = w.end_at;
    p.outer = w.outer;
  }
  append(p, w.frames, w.count);
}

// What their nodes are is known later.
void remember_nodes(const Walked& w) {
  Path& p = *w.path;
  uint32_t innermost = (w.met ? w.left : 0) + w.count - 1;
  for (uint32_t i = w.count + w.more; i;) {
    i -= w.frames[i - 1].group;
    if (i < w.count && innermost - i < p.count) p.frame(innermost - i).node = w.frames[i].kept.node;
  }
  if (!w.generation) return;
  for (uint32_t i = 0; i < w.count; i++)
    if (innermost - i < p.count) p.frame(innermost - i).generation = w.frames[i].kept.generation;
}

void use_path(Walked& w, address sp) {
  base::ThreadState& t = base::thread_state;
  if (!t.path || !on_own_stack(t, sp)) return;
  w.path = t.path;
  w.left = still_there(*t.path, sp);
  w.left_at = at_of(*t.path, w.left);
}
}  // namespace

uint32_t walk(address pc, address sp, address rbp) {
  WalkBuffer buffer;
  Walked w{buffer.frames()};
  use_path(w, sp);
  collect(w, {pc, sp, rbp}, true);
  hash_frames(w);
  uint32_t leaf = insert(w);
  // The tree's lock is free again: the joins' table may have to grow. Of the innermost frame the leaf cache is asked.
  for (uint32_t i = w.count; i-- > 1;)
    if (w.frames[i].kept.node && !(base::line<Node>(w.frames[i].kept.node)->generation & kNodeCut)) note_join(w.frames[i], w.frames[i].kept.node);
  if (whole(w)) remember(w);
  return leaf;
}

uint32_t walk_to_stack(const Caller& caller, Sight& sight) {
  WalkBuffer buffer;
  Walked w{buffer.frames()};
  sight = Sight::kNoPath;
  use_path(w, caller.sp);
  if (!w.path) return 0;
  collect(w, caller, false);
  if (!whole(w)) return 0;
  sight = Sight::kKnown;
  hash_frames(w);
  uint64_t hash = hash_of_sum(w.count ? w.frames[0].kept.sum : w.path->frame(w.left - 1).sum);
  auto& recent = recent_of(*w.path, hash);
  bool is_recent = recent.hash == hash && recent.epoch == path_epoch();
  if (is_recent) __builtin_prefetch(base::line<StackRecord>(recent.stack), 1);
  else prefetch_known_stack(hash);
  remember(w);
  uint32_t stack = is_recent ? recent.stack : known_stack(hash);
  if (!stack) {
    base::count(kCacheMisses);
    uint32_t leaf = insert(w);
    sight = Sight::kFirst;
    remember_nodes(w);
    stack = leaf == kNoNode ? base::header().overflow_stack : stack_of(leaf);
    know_stack(hash, stack, base::header().coverage[kStacks]);
  }
  if (!is_recent) {
    __builtin_prefetch(base::line<StackRecord>(stack), 1);
    recent = {hash, stack, path_epoch()};
  }
  return stack;
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
