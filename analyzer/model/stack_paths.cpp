#include "analyzer/model/stack_paths.h"

#include <absl/hash/hash.h>

#include <algorithm>

namespace tidemark::model {

using namespace format;

namespace {

uint16_t rule_kind(const Node& node) { return node.rule & 0xff; }

// visit(pc, generation, rule) for each frame of a node, the outermost first.
template <typename Visit>
void for_each_frame(const Node& node, Visit visit) {
  uint32_t generation = node.generation & ~kNodeCut;
  if (rule_kind(node) != 0) {
    if ((node.words[0] & kPcMask) != 0) visit(node.words[0] & kPcMask, generation, node.rule);
    return;
  }
  for (uint32_t i = kFramesPerNode; i-- > 0;) {
    bool padding = i != kFramesPerNode - 1 && node.words[i] >> 48 == 0;
    if (!padding && (node.words[i] & kPcMask) != 0) visit(node.words[i] & kPcMask, generation, uint16_t(0));
  }
}

}  // namespace

StackPaths::StackPaths(const region::Region& region, const ModuleMap& modules) : region_(region), modules_(modules) {
  // Of a cut file the last page may be there in part.
  of_node_.resize((region.used_pages() - region.missing_pages() + 1) * kLinesPerPage);
  for (const ModuleFile& file : modules.files()) {
    is_shim_.push_back(file.is_shim());
    begins_threads_.push_back(file.is_c_library());
  }
}

StackPaths::Reached StackPaths::from(StackEnd end) {
  Reached reached;
  reached.state = kKnown;
  reached.end = uint64_t(end);
  reached.first = reached.second = uint64_t(end) + 1;   // none is PathHash{}
  return reached;
}

Frame StackPaths::frame_at(uint64_t pc, uint32_t generation) const {
  // A call may be the last instruction of its module: then only the byte before the return address is covered.
  const ModuleInstance* instance = modules_.resolve(pc, generation);
  if (instance == nullptr) instance = modules_.resolve(pc - 1, generation);
  return instance != nullptr ? Frame{instance->file, pc - instance->bias} : Frame{kNoModule, pc};
}

bool StackPaths::begins_nowhere(const Frame& outermost, uint16_t rule) const {
  return outermost.module == kNoModule || (rule == kRuleGuess && !begins_threads_[outermost.module]);
}

StackPaths::Reached StackPaths::appended(Reached caller, const Node& node) const {
  for_each_frame(node, [&](uint64_t pc, uint32_t generation, uint16_t rule) {
    Frame frame = frame_at(pc, generation);
    // A hook that was interrupted by a signal handler, or that threw, is on the stack as truly as its caller is; but it is ours.
    caller.inside_shim = is_shim(frame);
    if (caller.inside_shim) return;
    caller.first = absl::HashOf(caller.first, frame.module, frame.offset);
    caller.second = absl::HashOf(frame.module, frame.offset, uint64_t(caller.second));
    if (!caller.begun) caller.callers_unknown = StackEnd(caller.end) == StackEnd::kWhole && begins_nowhere(frame, rule);
    caller.begun = 1;
  });
  caller.stops = 0;
  return caller;
}

StackPaths::Path StackPaths::add(uint32_t leaf) {
  steps_.clear();
  Reached caller = from(StackEnd::kLost);
  bool leads_back = false;
  for (uint32_t id = leaf;;) {
    if (id == kRootNode || id == kCutNode) {
      caller = from(id == kRootNode ? StackEnd::kWhole : StackEnd::kCut);
      break;
    }
    auto node = region_.node(id);
    if (!node) break;
    Reached& known = of_node_[index_of(id)];
    leads_back = known.state == kInProgress;
    if (known.state == kKnown) caller = known;
    if (known.state != kNotYet) break;
    known.state = kInProgress;
    steps_.push_back({id, *node});
    id = node->caller;
  }
  for (auto step = steps_.rbegin(); step != steps_.rend(); ++step) {
    caller = appended(caller, step->node);
    caller.stops = leads_back && step == steps_.rbegin();
    of_node_[index_of(step->id)] = caller;
  }
  return {{caller.first, caller.second}, StackEnd(caller.end), bool(caller.callers_unknown)};
}

std::vector<Frame> StackPaths::frames(uint32_t leaf) const {
  std::vector<Node> nodes;  // innermost first
  for (uint32_t id = leaf;;) {
    auto node = region_.node(id);
    if (!node) break;
    nodes.push_back(*node);
    if (of_node_[index_of(id)].stops) break;
    id = node->caller;
  }
  std::vector<Frame> frames;  // outermost first
  bool inside_shim = false;
  for (auto node = nodes.rbegin(); node != nodes.rend(); ++node) {
    for_each_frame(*node, [&](uint64_t pc, uint32_t generation, uint16_t rule) {
      Frame frame = frame_at(pc, generation);
      bool called_inside_shim = inside_shim;
      inside_shim = is_shim(frame);
      if (inside_shim) return;
      frame.signal = rule == kRuleSignal;
      frame.guessed = rule == kRuleGuess;   // but for one that begins a coroutine
      // What a signal interrupted is the frame before, unless that was left out.
      if (frame.signal && !called_inside_shim && !frames.empty()) frames.back().exact = true;
      frames.push_back(frame);
    });
  }
  std::reverse(frames.begin(), frames.end());
  return frames;
}

}  // namespace tidemark::model
