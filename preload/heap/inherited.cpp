#include "preload/heap/inherited.h"

#include <cstring>

#include "preload/base/memory.h"
#include "preload/heap/page_map.h"
#include "preload/stacks/frame_tree.h"

namespace tidemark::heap {
using namespace format;
namespace {

struct Ancestor {
  const char *lines, *start;
  uint64_t bytes;
  uint32_t first, end;   // its line ids
  const uint32_t* map;   // ids below `first`, which it had inherited itself -> its own; nullptr where it never adopted them
};
constexpr uint32_t kMaxAncestors = 8;   // forks within forks, all within their grace
constinit Ancestor ancestors[kMaxAncestors]{};
constinit uint32_t ancestor_count = 0;
constinit char* parent_page = nullptr;   // the parent's header
constinit std::atomic<uint32_t*> own_map{nullptr};   // inherited id -> record of kind kInherited, by id; 0: unknown

const Ancestor* ancestor_of(uint32_t id) {
  for (uint32_t i = ancestor_count; i-- > 0;) {
    const Ancestor& a = ancestors[i];
    if (id >= a.first && id < a.end) return &a;
    if (a.map) return &a;   // older ids go through its map
  }
  return nullptr;
}

// Copies an ancestor's path into this region's tree, outermost node first; kNoNode: no room. Modules and their generations are
// the same here, so nodes are taken over as they are.
uint32_t copy_path(const Ancestor& a, uint32_t leaf) {
  constexpr uint32_t kMaxNodes = 4096;
  static uint32_t path[kMaxNodes];   // adopt_inherited runs alone
  uint32_t n = 0, id = leaf;
  for (; id > kCutNode && n < kMaxNodes; n++) {
    if (id < a.first || id >= a.end) return stacks::kNoNode;
    path[n] = id;
    id = reinterpret_cast<const Node*>(a.lines + uint64_t{id} * kLineBytes)->caller;
  }
  uint32_t caller = id > kCutNode ? kCutNode : id;
  stacks::PathHash hash = stacks::path_hash(caller, nullptr, 0);
  while (n-- > 0) {
    Node node = *reinterpret_cast<const Node*>(a.lines + uint64_t{path[n]} * kLineBytes);
    node.caller = caller;
    node.generation &= ~kNodeCut;
    hash.add(node);
    caller = stacks::put_node(node, stacks::hash_of_sum(hash.sum));
    if (caller == stacks::kNoNode) return caller;
  }
  return caller;
}

// The new record for an inherited id; 0: unknown, or no room.
uint32_t adopt(uint32_t id) {
  const Ancestor* a = ancestor_of(id);
  if (!a) return 0;
  if (id < a->first) id = a->map ? a->map[id] : 0;
  if (id < a->first || id >= a->end) return 0;
  uint32_t leaf = reinterpret_cast<const StackRecord*>(a->lines + uint64_t{id} * kLineBytes)->leaf_and_kind & 0xffffff;
  if (leaf <= kCutNode) return 0;
  leaf = copy_path(*a, leaf);
  return leaf <= kCutNode || leaf == stacks::kNoNode ? 0 : stacks::add_inherited_stack(leaf);
}
}  // namespace

void push_ancestor() {
  base::Store& s = base::store;
  // With its blocks adopted, all that is left of this process's own parent is its header.
  if (parent_page && !ancestor_count) base::unmap(parent_page, kPageBytes);
  parent_page = s.start;
  if (ancestor_count == kMaxAncestors) {   // the oldest one's blocks become unknown
    memmove(ancestors, ancestors + 1, sizeof(Ancestor) * (kMaxAncestors - 1));
    ancestor_count--;
  }
  uint32_t end = s.first_line + uint32_t(base::header().used_pages) * kLinesPerPage;
  ancestors[ancestor_count++] = {s.lines, s.start, s.bytes, s.first_line, end, own_map.exchange(nullptr)};
}

TIDEMARK_COLD void count_inherited_free(uint32_t id, uint64_t bytes) {
  const uint32_t* map = own_map.load(std::memory_order_acquire);
  if (!map) return;   // freed before the region shows any inherited block: it was never in the figures
  uint32_t record = map[id];
  if (!record) return;
  auto* s = base::line<StackRecord>(record);
  __atomic_fetch_add(&s->freed_count, 1, __ATOMIC_RELAXED);
  __atomic_fetch_add(&s->freed_bytes, bytes, __ATOMIC_RELAXED);
}

void adopt_inherited() {
  uint32_t limit = base::store.first_line;
  if (!limit || !ancestor_count || own_map.load()) return;
  auto* map = static_cast<uint32_t*>(base::map_private(uint64_t{limit} * sizeof(uint32_t)));
  if (!map) return;
  for_each_block([&](std::atomic<Record>&, Record r, uint64_t bytes) {
    uint32_t id = stack_of_record(r);
    if (id >= limit) return;
    constexpr uint32_t kUnknown = 1;   // asked before, in vain; no record has this id
    if (!map[id] && !(map[id] = adopt(id))) map[id] = kUnknown;
    if (map[id] == kUnknown) return base::count(kInheritedUnknownBytes, bytes);
    auto* s = base::line<StackRecord>(map[id]);
    s->allocated_count++;
    s->allocated_bytes += bytes;
    if (s->allocated_bytes > s->peak_live_bytes) s->peak_live_bytes = s->allocated_bytes;
  });
  for (uint32_t id = 0; id < limit; id++)
    if (map[id] == 1) map[id] = 0;
  own_map.store(map, std::memory_order_release);
  // The ancestors' pages, but the parent's header, are not needed any more.
  for (uint32_t i = 0; i < ancestor_count; i++) {
    uint64_t keep = ancestors[i].start == parent_page ? kPageBytes : 0;
    base::unmap(const_cast<char*>(ancestors[i].start) + keep, ancestors[i].bytes - keep);
  }
  ancestor_count = 0;
}

Header* parent_header() {
  return reinterpret_cast<Header*>(parent_page);
}

}  // namespace tidemark::heap
