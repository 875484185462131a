// The frame tree: every call stack that was ever seen, outer frames shared, append-only, in the region. See format::Node.
// Look-ups take no lock; a node is added under one. Ids are never used twice, so a stale id is only ever a wrong guess.
#pragma once
#include <atomic>

#include "preload/base/store.h"

namespace tidemark::stacks {

inline constexpr uint32_t kNoNode = 0xffffffff;   // no room

// A path's hash: of its frames' words, from the outermost on. Nodes are looked for by that of their innermost frame, which is known before the
// node outside of them is found: so all of a path's can be fetched at once. It is a sum over the frames of both halves of a product (as in Wang
// Yi's wyhash) of word and depth, so that none waits for the one outside of it.
struct PathHash {
  static constexpr uint64_t kRoot = 0xA0761D6478BD642F, kCut = 0xE7037ED1A0B428DB;   // where it begins; any two odd numbers
  uint64_t sum;
  uint32_t depth;   // frames

  TIDEMARK_INLINE void add(uint64_t word) {
    uint64_t factor = (++depth * 0x9E3779B97F4A7C15ull) ^ kCut;
    auto product = (unsigned __int128){word ^ kRoot} * factor;
    sum += uint64_t(product) ^ uint64_t(product >> 64);
  }
  void add(const format::Node& n);
};
// What tables ask for. Of stacks that differ in a few frames the sums' lower bits may all be even, or worse: so each bit of what is made of a sum depends
// on all of it. No two sums give the same. (The finalizer of Appleby's MurmurHash3.)
inline uint64_t hash_of_sum(uint64_t sum) {
  sum = (sum ^ sum >> 33) * 0xFF51AFD7ED558CCDull;
  sum = (sum ^ sum >> 33) * 0xC4CEB9FE1A85EC53ull;
  return sum ^ sum >> 33;
}
// Up to node `id`. room: for ids, as many as there are nodes on the way to the root; where there are more, another number: nodes that are
// looked for by that will be new ones.
PathHash path_hash(uint32_t id, uint32_t* room, uint32_t most);
void prefetch_index(uint64_t hash);   // where a node's id would be
void prefetch_node(uint64_t hash);    // the node, if that has arrived

// The node equal to `n` (its `stack` does not matter), found or added; kNoNode when there is no room. n.generation without
// kNodeCut: it is set here from the caller.
uint32_t put_node(format::Node& n, uint64_t hash);

// The same for the nodes of one path, from the outermost on. What has a new node for its caller is new as well: only the first of those is
// looked for, and from it on the lock is held, until the end.
class PathWriter {
 public:
  PathWriter() = default;
  ~PathWriter();
  PathWriter(const PathWriter&) = delete;
  PathWriter& operator=(const PathWriter&) = delete;
  uint32_t put(format::Node& n, uint64_t hash);

 private:
  bool adding_ = false;
};

// The StackRecord of a leaf, made on first use; Header::overflow_stack when there is no room.
uint32_t add_stack(uint32_t leaf);
TIDEMARK_INLINE uint32_t stack_of(uint32_t leaf) {
  uint32_t s = __atomic_load_n(&base::line<format::Node>(leaf)->stack, __ATOMIC_ACQUIRE);
  return TIDEMARK_LIKELY(s) ? s : add_stack(leaf);
}
// A StackRecord for blocks that a fork child inherited; not the leaf's own one. 0: no room.
uint32_t add_inherited_stack(uint32_t leaf);

uint32_t node_count();
bool start_tree();   // an empty index for the present store (also in a child of fork); false: no memory
void lock_tree();    // around fork
void unlock_tree();
void reset_tree_lock();

}  // namespace tidemark::stacks
