#include "analyzer/model/mapping_sites.h"

#include <absl/container/flat_hash_map.h>

#include <algorithm>
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

std::vector<MappingSite> read_mapping_sites(const region::Region& region, StackPaths& paths) {
  std::vector<MappingSite> sites;
  absl::flat_hash_map<PathHash, size_t> of_path;  // nodes of several generations may be one path
  constexpr PathHash kOverflow{};
  for (const format::MappingStack& record : region.mapping_stacks()) {
    bool overflow = record.leaf == format::kCutNode;
    StackPaths::Path path = overflow ? StackPaths::Path{kOverflow, StackEnd::kWhole} : paths.add(record.leaf);
    auto [place, fresh] = of_path.emplace(path.hash, sites.size());
    if (fresh) static_cast<CallStack&>(sites.emplace_back()) = overflow ? kOverflowStack : call_stack_of(record.leaf, path);
    add(sites[place->second], record);
  }
  std::stable_sort(sites.begin(), sites.end(), [](const MappingSite& a, const MappingSite& b) { return rank(a) > rank(b); });
  return sites;
}

}  // namespace tidemark::model
