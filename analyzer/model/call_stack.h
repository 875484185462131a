// Which call stack something belongs to.
#pragma once
#include "analyzer/model/stack_paths.h"

namespace tidemark::model {

struct CallStack {
  uint32_t leaf = format::kRootNode;  // of StackPaths::frames: the innermost node of one of the records that have this path
  bool overflow = false;              // everything that found no room in a table: no frames
  bool truncated = false;             // outermost frames are missing
  bool damaged = false;               // frames are missing because the file is
  bool callers_unknown = false;        // see StackPaths::Path
};

inline constexpr CallStack kOverflowStack = {.overflow = true};
inline CallStack call_stack_of(uint32_t leaf, const StackPaths::Path& path) {
  return {leaf, false, path.end == StackEnd::kCut, path.end == StackEnd::kLost, path.callers_unknown};
}

}  // namespace tidemark::model
