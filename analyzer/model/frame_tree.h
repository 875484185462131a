// Call stacks as a tree of frames, outermost first, in which equal stacks are one leaf however their nodes lie in the region:
// the frame's place in its module decides, not the address at which that was loaded. A walk of the region's nodes visits each
// node once, so a forged file (cycles, chains that share everything) costs no more than its size.
#pragma once
#include <absl/container/flat_hash_map.h>

#include <cstdint>
#include <vector>

#include "analyzer/model/modules.h"
#include "analyzer/region/region.h"

namespace tidemark::model {

inline constexpr uint32_t kNoModule = UINT32_MAX;

struct Frame {
  uint32_t module = kNoModule;  // index into ModuleMap::files
  uint64_t offset = 0;          // virtual address in that file; without a module: the pc
  bool exact = false;           // the interrupted instruction itself, not a return address
  bool signal = false;          // signal trampoline
  bool guessed = false;         // passed by following the frame pointer
};

class FrameTree {
 public:
  using Id = uint32_t;
  // Where a path ends at its outer end.
  static constexpr Id kRoot = 0;  // the whole stack is there
  static constexpr Id kCut = 1;   // more frames were not kept
  static constexpr Id kLost = 2;  // a node could not be read

  FrameTree(const region::Region& region, const ModuleMap& modules);

  // The innermost frame of the stack that ends in region node `leaf`, without the shim's own frames.
  Id add(uint32_t leaf);

  std::vector<Frame> frames(Id leaf) const;  // innermost first
  Id end_of(Id leaf) const { return entries_[leaf].end; }

 private:
  struct Entry {
    Id caller;
    Id end;
    uint32_t module = kNoModule;
    bool signal = false, guessed = false;
    bool interrupts = false;  // its caller was interrupted, rather than called it
    uint8_t listed = 0;       // children in the list that begins with first_child
    uint64_t offset = 0;
    Id first_child = 0, next_sibling = 0;  // 0: none
  };
  struct Key {
    Id caller;
    uint32_t module;
    uint64_t offset;
    bool operator==(const Key&) const = default;
  };
  struct KeyHash {
    size_t operator()(const Key& key) const;
  };

  // The frame that a stack has reached from its outer end.
  struct Reached {
    Id id;
    bool inside_shim = false;  // one of the shim's own lies further in, and was left out
  };

  Id find(const Key& key) const;  // 0: it is not there
  Id insert(Entry entry);

  Reached node_leaf(uint32_t leaf);
  Reached append_node(Reached caller, const format::Node& node);
  Reached append_frame(Reached caller, uint64_t pc, uint32_t generation, uint16_t rule);

  const region::Region& region_;
  const ModuleMap& modules_;
  std::vector<bool> is_shim_;  // by module file
  std::vector<Entry> entries_;
  absl::flat_hash_map<Key, Id, KeyHash> known_;  // what is in no list
  std::vector<Reached> of_node_;  // by line of the region, as far as it has nodes
};

}  // namespace tidemark::model
