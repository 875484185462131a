#include "preload/stacks/frame_tree.h"

#include "preload/base/memory.h"
#include "preload/base/spin_lock.h"

namespace tidemark::stacks {
using namespace format;
namespace {

// Open addressing; an entry is a node id (24 bits) under 40 bits of its hash. A node in the line behind its caller is found there and has none: of
// a new stack's nodes, that is all but the outermost.
struct Index {
  uint64_t mask;
  std::atomic<uint64_t> entries[];
  uint64_t home(uint64_t hash) const { return hash >> 24 & mask; }
};
constexpr uint32_t kFirstIndex = 512;
constexpr uint32_t kIdMask = 0xffffff;
constinit std::atomic<Index*> index_{nullptr};
constinit base::SpinLock tree_lock;
constinit std::atomic<uint32_t> nodes{0};
constinit uint32_t indexed = 0;

bool same(const Node& a, const Node& b) {
  uint64_t d = (a.caller ^ b.caller) | (a.rule ^ b.rule) | (a.generation ^ b.generation);
  for (uint32_t i = 0; i < kFramesPerNode; i++) d |= a.words[i] ^ b.words[i];
  return !d;
}

Index* new_index(uint32_t size) {
  auto* index = static_cast<Index*>(base::small_table(sizeof(Index) + size * 8ull));
  if (index) index->mask = size - 1;
  return index;
}

void put(Index* index, uint64_t entry) {
  uint64_t i = index->home(entry);
  while (index->entries[i].load(std::memory_order_relaxed)) i = (i + 1) & index->mask;
  index->entries[i].store(entry, std::memory_order_release);
}

// Whether the line behind a node, which is its caller, can only be a node's.
bool is_beside(uint32_t id, uint32_t caller) {
  return id == caller + 1 && caller > kCutNode && (id - base::store.first_line) % kLinesPerPage;
}
uint32_t find_beside(const Node& n) {
  uint32_t id = n.caller + 1;
  if (!is_beside(id, n.caller)) return 0;
  const Node& beside = *base::line<Node>(id);
  return __atomic_load_n(&beside.caller, __ATOMIC_ACQUIRE) == n.caller && same(beside, n) ? id : 0;
}

uint32_t find(const Node& n, uint64_t hash) {
  if (uint32_t id = find_beside(n)) return id;
  const Index* index = index_.load(std::memory_order_acquire);
  for (uint64_t i = index->home(hash);; i = (i + 1) & index->mask) {
    uint64_t e = index->entries[i].load(std::memory_order_acquire);
    if (!e) return 0;
    if (!((e ^ hash) >> 24) && same(*base::line<Node>(e & kIdMask), n)) return uint32_t(e & kIdMask);
  }
}

// tree_lock is held. A table that has been outgrown is left to readers that linger in it: who misses something in zeros looks again under the lock.
Index* grow(Index* old) {
  Index* index = new_index(uint32_t(old->mask + 1) * 2);
  if (!index) return old;
  for (uint64_t i = 0; i <= old->mask; i++)
    if (uint64_t e = old->entries[i].load(std::memory_order_relaxed)) put(index, e);
  index_.store(index, std::memory_order_release);
  base::discard_table(old, sizeof(Index) + (old->mask + 1) * sizeof(uint64_t));
  return index;
}

void count_new(const Node& n) {
  uint16_t kind = n.rule & 0xff;
  if (kind == kRuleHard) base::count(kHardFrames);
  // A frame without unwind data and with nothing outside of it is how the ABI marks a stack's end (ld.so's start code): no loss.
  if (kind == kRuleGuess && n.caller != kRootNode) base::count(kGuessedFrames);
}
}  // namespace

// tree_lock is held, and there is no such node.
static uint32_t add_node(Node& n, uint64_t hash) {
  Index* index = index_.load(std::memory_order_relaxed);
  uint32_t count = nodes.load(std::memory_order_relaxed);
  if (uint64_t{indexed} * 4 > index->mask * 3) index = grow(index);
  if (indexed >= index->mask) return kNoNode;
  uint32_t id = base::take_lines(PageKind::kNodes, 1);
  if (!id) return kNoNode;
  n.stack = 0;
  Node& line = *base::line<Node>(id);
  uint32_t caller = n.caller;
  n.caller = kRootNode;
  line = n;
  __atomic_store_n(&line.caller, n.caller = caller, __ATOMIC_RELEASE);   // last, for it may be found beside its caller
  if (!is_beside(id, caller)) {
    put(index, (hash & ~uint64_t{kIdMask}) | id);
    indexed++;
  }
  nodes.store(count + 1, std::memory_order_release);
  base::header().coverage[kNodes] = count + 1;
  count_new(n);
  return id;
}

PathWriter::~PathWriter() {
  if (adding_) tree_lock.unlock();
}

uint32_t PathWriter::put(Node& n, uint64_t hash) {
  if (n.caller == kCutNode || (n.caller > kCutNode && base::line<Node>(n.caller)->generation & kNodeCut)) n.generation |= kNodeCut;
  if (adding_) return add_node(n, hash);
  uint32_t before = nodes.load(std::memory_order_acquire);
  if (uint32_t id = find(n, hash)) return id;
  tree_lock.lock();
  adding_ = true;
  if (before != nodes.load(std::memory_order_relaxed))   // somebody added one meanwhile
    if (uint32_t id = find(n, hash)) {
      tree_lock.unlock();
      adding_ = false;
      return id;
    }
  return add_node(n, hash);
}

uint32_t put_node(Node& n, uint64_t hash) { return PathWriter().put(n, hash); }

void PathHash::add(const Node& n) {
  if (n.rule & 0xff) return add(n.words[0]);
  for (uint32_t i = kFramesPerNode; i--;)
    if (i == kFramesPerNode - 1 || n.words[i] >> 48) add(n.words[i]);
}

PathHash path_hash(uint32_t id, uint32_t* room, uint32_t most) {
  uint32_t count = 0;
  for (; id > kCutNode; id = base::line<Node>(id)->caller) {
    if (count == most) return {base::mix(room[0] + PathHash::kRoot), count};
    room[count++] = id;
  }
  PathHash hash{id == kRootNode ? PathHash::kRoot : PathHash::kCut, 0};
  while (count) hash.add(*base::line<Node>(room[--count]));
  return hash;
}

void prefetch_index(uint64_t hash) {
  const Index* index = index_.load(std::memory_order_acquire);
  __builtin_prefetch(&index->entries[index->home(hash)]);
}
void prefetch_node(uint64_t hash) {
  const Index* index = index_.load(std::memory_order_acquire);
  uint64_t e = index->entries[index->home(hash)].load(std::memory_order_relaxed);
  if ((e ^ hash) >> 24) return;
  __builtin_prefetch(base::line<Node>(e & kIdMask));
  __builtin_prefetch(base::line<Node>(e & kIdMask) + 1);
}

static uint32_t new_stack(uint32_t leaf, StackKind kind) {
  uint32_t id = base::take_stack();
  if (!id) return 0;
  auto* s = base::line<StackRecord>(id);
  s->first_tick = s->last_tick = base::header().tick;
  __atomic_store_n(&s->leaf_and_kind, leaf | uint32_t(kind) << 24, __ATOMIC_RELEASE);
  base::count(kStacks);
  if (base::line<Node>(leaf)->generation & kNodeCut) base::count(kCutStacks);
  return id;
}

TIDEMARK_COLD uint32_t add_stack(uint32_t leaf) {
  base::SpinGuard guard(tree_lock);
  Node* n = base::line<Node>(leaf);
  if (n->stack) return n->stack;
  uint32_t id = new_stack(leaf, StackKind::kOwn);
  if (!id) return base::header().overflow_stack;   // asked again next time: a page for stacks may still come
  __atomic_store_n(&n->stack, id, __ATOMIC_RELEASE);
  return id;
}

uint32_t add_inherited_stack(uint32_t leaf) {
  base::SpinGuard guard(tree_lock);
  return new_stack(leaf, StackKind::kInherited);
}

uint32_t node_count() { return nodes.load(std::memory_order_relaxed); }

bool start_tree() {
  Index* index = new_index(kFirstIndex);
  if (!index) return false;
  nodes.store(0);
  indexed = 0;
  index_.store(index, std::memory_order_release);
  return true;
}

void lock_tree() { tree_lock.lock(); }
void unlock_tree() { tree_lock.unlock(); }
void reset_tree_lock() { tree_lock.reset(); }

}  // namespace tidemark::stacks
