// Which call stacks of a region are the same, however their nodes lie in it: each has a hash of its path, outermost frame first, in which a
// frame's place in its module counts, not the address at which that was loaded. Each node is visited once, so a forged file (cycles, chains
// that share everything) costs no more than its size; and 16 bytes a line of the file is all that is kept, for of millions of stacks few are shown.
#pragma once
#include <cstdint>
#include <utility>
#include <vector>

#include "analyzer/model/frame.h"
#include "analyzer/model/modules.h"
#include "analyzer/region/region.h"

namespace tidemark::model {

// How a stack ends at its outer end.
enum class StackEnd : uint8_t {
  kWhole,
  kCut,   // more frames were not kept
  kLost,  // a node could not be read
};

// 120 bits of absl::Hash: that two of ten million different paths have the same is a chance of 2^-74. Another one in each run of this program.
struct PathHash {
  uint64_t first = 0, second = 0;
  bool operator==(const PathHash&) const = default;
  template <typename State>
  friend State AbslHashValue(State state, const PathHash& hash) {
    return State::combine(std::move(state), hash.first);
  }
};

class StackPaths {
 public:
  // Both must outlive this.
  StackPaths(const region::Region& region, const ModuleMap& modules);

  struct Path {
    PathHash hash;
    StackEnd end;
    bool callers_unknown = false;  // it begins in code without unwind data (a JIT compiler's, or of a library built without), where no thread begins
  };
  // The stack that ends in region node `leaf`, without the shim's own frames.
  Path add(uint32_t leaf);

  // Innermost first. `leaf` was added.
  std::vector<Frame> frames(uint32_t leaf) const;

 private:
  enum State : uint64_t { kNotYet, kInProgress, kKnown };
  // A path as far as a node has it.
  struct Reached {
    uint64_t first = 0;
    uint64_t second : 56 = 0;
    uint64_t state : 2 = kNotYet;
    uint64_t end : 2 = 0;          // StackEnd
    uint64_t inside_shim : 1 = 0;  // one of the shim's own frames lies further in, and was left out
    uint64_t begun : 1 = 0;        // there is a frame
    uint64_t callers_unknown : 1 = 0;
    uint64_t stops : 1 = 0;        // the node's caller is not followed, for it leads back here
  };

  struct Step {
    uint32_t id;
    format::Node node;
  };

  size_t index_of(uint32_t node) const { return node - region_.header().first_line; }
  static Reached from(StackEnd end);
  // As far as one pc tells.
  Frame frame_at(uint64_t pc, uint32_t generation) const;
  bool is_shim(const Frame& frame) const { return frame.module != kNoModule && is_shim_[frame.module]; }
  bool begins_nowhere(const Frame& outermost, uint16_t rule) const;
  Reached appended(Reached caller, const format::Node& node) const;

  const region::Region& region_;
  const ModuleMap& modules_;
  std::vector<bool> is_shim_, begins_threads_;   // by module file
  std::vector<Step> steps_;       // of the stack that is being added, innermost first
  std::vector<Reached, region::LargePages<Reached>> of_node_;  // by line of the region, as far as it has nodes
};

}  // namespace tidemark::model
