// The frame tree: every call stack that was ever seen, outer frames shared, append-only, in the region. See format::Node.
// Look-ups take no lock; a node is added under one. Ids are never used twice, so a stale id is only ever a wrong guess.
#pragma once
#include <atomic>

#include "preload/base/store.h"

namespace tidemark::stacks {

inline constexpr uint32_t kNoNode = 0xffffffff;   // no room

// The node equal to `n` (its `stack` does not matter), found or added; kNoNode when there is no room. n.generation without
// kNodeCut: it is set here from the caller.
uint32_t put_node(format::Node& n);

// The same for the nodes of one path, from the outermost on. What has a new node for its caller is new as well: only the first of those is
// looked for, and from it on the lock is held, until the end.
class PathWriter {
 public:
  PathWriter() = default;
  ~PathWriter();
  PathWriter(const PathWriter&) = delete;
  PathWriter& operator=(const PathWriter&) = delete;
  uint32_t put(format::Node& n);

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
