// Which call stack something belongs to.
#pragma once
#include "analyzer/model/frame_tree.h"

namespace tidemark::model {

struct CallStack {
  FrameTree::Id leaf = FrameTree::kRoot;
  bool overflow = false;   // everything that found no room in a table: no frames
  bool truncated = false;  // outermost frames are missing
  bool damaged = false;    // frames are missing because the file is
};

// The one of a node of the region.
inline CallStack call_stack_of(FrameTree& tree, uint32_t node) {
  FrameTree::Id leaf = tree.add(node);
  return {leaf, false, tree.end_of(leaf) == FrameTree::kCut, tree.end_of(leaf) == FrameTree::kLost};
}

}  // namespace tidemark::model
