#include "analyzer/model/mapping_sites.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "analyzer/region/arithmetic.h"

namespace tidemark::model {

using region::accumulate;

namespace {

void add(MappingSite& site, const format::MappingStack& record) {
  bool fresh = site.calls == 0;
  accumulate(site.calls, record.mapped_count);
  accumulate(site.mapped_bytes, record.mapped_bytes);
  accumulate(site.unmapped_bytes, std::min(record.unmapped_bytes, record.mapped_bytes));
  accumulate(site.peak_bytes, record.peak_bytes);
  accumulate(site.resident_bytes, record.resident_bytes);
  accumulate(site.baseline_resident_bytes, record.baseline_resident_bytes);
  site.first_tick = fresh ? record.first_tick : std::min(site.first_tick, record.first_tick);
  site.last_tick = std::max(site.last_tick, record.last_tick);
}

std::tuple<uint64_t, uint64_t, uint64_t> rank(const MappingSite& site) { return {site.resident_bytes, site.live_bytes(), site.mapped_bytes}; }

}  // namespace

std::vector<MappingSite> read_mapping_sites(const region::Region& region, FrameTree& tree) {
  std::map<std::pair<FrameTree::Id, bool>, MappingSite> by_stack;  // nodes of several generations may be one path
  for (const format::MappingStack& record : region.mapping_stacks()) {
    bool overflow = record.leaf == format::kCutNode;
    CallStack stack = overflow ? CallStack{.overflow = true} : call_stack_of(tree, record.leaf);
    MappingSite& site = by_stack[{stack.leaf, overflow}];
    static_cast<CallStack&>(site) = stack;
    add(site, record);
  }
  std::vector<MappingSite> sites;
  for (auto& [key, site] : by_stack) sites.push_back(site);
  std::stable_sort(sites.begin(), sites.end(), [](const MappingSite& a, const MappingSite& b) { return rank(a) > rank(b); });
  return sites;
}

}  // namespace tidemark::model
