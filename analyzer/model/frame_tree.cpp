#include "analyzer/model/frame_tree.h"

namespace tidemark::model {

using namespace format;

namespace {

// Most frames have one child or two, which came next and lie near: a list finds them without waiting for a line of a table.
constexpr uint8_t kMostListed = 4;
constexpr FrameTree::Id kInProgress = UINT32_MAX, kNotYet = UINT32_MAX - 1;

uint16_t rule_kind(const Node& node) { return node.rule & 0xff; }

}  // namespace

size_t FrameTree::KeyHash::operator()(const Key& key) const {
  uint64_t hash = key.offset * 0x9e3779b97f4a7c15ull;
  hash ^= (uint64_t(key.module) << 32 | key.caller) * 0xff51afd7ed558ccdull;
  return size_t(hash ^ hash >> 29);
}

FrameTree::FrameTree(const region::Region& region, const ModuleMap& modules) : region_(region), modules_(modules) {
  // Of a cut file the last page may be there in part.
  of_node_.resize((region.used_pages() - region.missing_pages() + 1) * kLinesPerPage, {kNotYet});
  for (Id end : {kRoot, kCut, kLost}) entries_.push_back({.caller = end, .end = end});
  for (const ModuleFile& file : modules.files()) is_shim_.push_back(file.is_shim());
}

FrameTree::Id FrameTree::add(uint32_t leaf) { return node_leaf(leaf).id; }

FrameTree::Reached FrameTree::node_leaf(uint32_t leaf) {
  struct Step {
    uint32_t id;
    Node node;
  };
  std::vector<Step> steps;  // innermost first
  Reached caller{kLost};
  for (uint32_t id = leaf;;) {
    if (id == kRootNode || id == kCutNode) {
      caller = {id == kRootNode ? kRoot : kCut};
      break;
    }
    auto node = region_.node(id);
    if (!node) break;
    Reached& known = of_node_[id - region_.header().first_line];
    if (known.id != kNotYet) {
      if (known.id != kInProgress) caller = known;  // else a cycle
      break;
    }
    known.id = kInProgress;
    steps.push_back({id, *node});
    id = node->caller;
  }
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    caller = append_node(caller, step->node);
    of_node_[step->id - region_.header().first_line] = caller;
  }
  return caller;
}

FrameTree::Reached FrameTree::append_node(Reached caller, const Node& node) {
  uint32_t generation = node.generation & ~kNodeCut;
  if (rule_kind(node) != 0) return append_frame(caller, node.words[0] & kPcMask, generation, rule_kind(node));
  for (uint32_t i = kFramesPerNode; i-- > 0;) {
    bool padding = i != kFramesPerNode - 1 && node.words[i] >> 48 == 0;
    if (!padding) caller = append_frame(caller, node.words[i] & kPcMask, generation, 0);
  }
  return caller;
}

FrameTree::Reached FrameTree::append_frame(Reached caller, uint64_t pc, uint32_t generation, uint16_t rule) {
  if (pc == 0) return caller;
  // A call may be the last instruction of its module: then only the byte before the return address is covered.
  const ModuleInstance* instance = modules_.resolve(pc, generation);
  if (instance == nullptr) instance = modules_.resolve(pc - 1, generation);
  // A hook that was interrupted by a signal handler, or that threw, is on the stack as truly as its caller is; but it is ours.
  if (instance && is_shim_[instance->file]) return {caller.id, true};

  Key key{caller.id, instance ? instance->file : kNoModule, instance ? pc - instance->bias : pc};
  if (Id known = find(key)) return {known};
  bool signal = rule == kRuleSignal;
  // What a signal interrupted is the next frame, unless that was left out.
  bool interrupts = signal && !caller.inside_shim;
  return {insert({.caller = caller.id, .end = entries_[caller.id].end, .module = key.module, .signal = signal, .guessed = rule == kRuleGuess,
                  .interrupts = interrupts, .offset = key.offset})};
}

FrameTree::Id FrameTree::find(const Key& key) const {
  for (Id id = entries_[key.caller].first_child; id != 0; id = entries_[id].next_sibling)
    if (entries_[id].module == key.module && entries_[id].offset == key.offset) return id;
  if (entries_[key.caller].listed < kMostListed) return 0;
  auto place = known_.find(key);
  return place == known_.end() ? 0 : place->second;
}

FrameTree::Id FrameTree::insert(Entry entry) {
  Id id = Id(entries_.size());
  Entry& caller = entries_[entry.caller];
  if (caller.listed < kMostListed) {
    entry.next_sibling = caller.first_child;
    caller.first_child = id;
    caller.listed++;
  } else {
    known_.emplace(Key{entry.caller, entry.module, entry.offset}, id);
  }
  entries_.push_back(entry);
  return id;
}

std::vector<Frame> FrameTree::frames(Id leaf) const {
  std::vector<Frame> frames;
  bool interrupted = false;
  for (Id id = leaf; id > kLost; id = entries_[id].caller) {
    const Entry& entry = entries_[id];
    frames.push_back({entry.module, entry.offset, interrupted, entry.signal, entry.guessed});
    interrupted = entry.interrupts;
  }
  return frames;
}

}  // namespace tidemark::model
