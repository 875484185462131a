#include "analyzer/model/profile.h"

#include <absl/container/flat_hash_map.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <tuple>

#include "analyzer/model/out_of_memory.h"
#include "analyzer/region/arithmetic.h"

namespace tidemark::model {

using namespace format;
using region::accumulate;
using region::StackEntry;

Counters Counters::of(const StackEntry& entry) {
  return {entry.allocated_count, entry.allocated_bytes, std::min(entry.freed_count, entry.allocated_count),
          std::min(entry.freed_bytes, entry.allocated_bytes)};
}

void Counters::add(const Counters& more) {
  accumulate(allocated_count, more.allocated_count);
  accumulate(allocated_bytes, more.allocated_bytes);
  accumulate(freed_count, more.freed_count);
  accumulate(freed_bytes, more.freed_bytes);
}

namespace {

class Builder {
 public:
  Builder(const region::Region& region, Profile& profile) : region_(region), profile_(profile) {}

  void add(const StackEntry& entry) {
    if (entry.kind != StackKind::kOwn && entry.kind != StackKind::kInherited && entry.kind != StackKind::kOverflow) return;
    Site& site = site_for(entry);
    ++site.records;
    site.stack_id = site.stack_id == 0 ? entry.id : std::min(site.stack_id, entry.id);
    if (entry.kind == StackKind::kInherited) {
      add_inherited(site, entry);
    } else {
      add_own(site, entry);
    }
  }

  void finish() {
    for (Site& site : profile_.sites) {
      site.peak_live_bytes = std::max(site.peak_live_bytes, site.counters.live_bytes());
      if (site.damaged) ++profile_.damage.stacks_without_frames;
    }
    std::sort(profile_.sites.begin(), profile_.sites.end(), [](const Site& a, const Site& b) { return rank(a) < rank(b); });
  }

 private:
  static std::tuple<uint64_t, uint64_t, uint64_t, uint64_t, uint32_t> rank(const Site& site) {
    return {~site.counters.live_bytes(), ~site.counters.live_count(), ~site.inherited_bytes, ~site.counters.allocated_bytes,
            site.stack_id};
  }

  Site& site_for(const StackEntry& entry) {
    bool overflow = entry.kind == StackKind::kOverflow;
    CallStack stack = overflow ? CallStack{.overflow = true} : call_stack_of(*profile_.tree, entry.leaf);
    auto [place, added] = index_.emplace(uint64_t(stack.leaf) << 1 | overflow, profile_.sites.size());
    if (added) static_cast<CallStack&>(profile_.sites.emplace_back()) = stack;
    return profile_.sites[place->second];
  }

  void add_inherited(Site& site, const StackEntry& entry) {
    Counters counters = Counters::of(entry);
    accumulate(site.inherited_bytes, counters.live_bytes());
    accumulate(site.inherited_count, counters.live_count());
    accumulate(profile_.totals.inherited_bytes, counters.live_bytes());
    accumulate(profile_.totals.inherited_count, counters.live_count());
  }

  void add_own(Site& site, const StackEntry& entry) {
    Counters counters = Counters::of(entry);
    site.counters.add(counters);
    profile_.totals.counters.add(counters);
    if (entry.kind == StackKind::kOverflow) profile_.totals.overflow.add(counters);

    site.peak_live_bytes = std::max(site.peak_live_bytes, entry.peak_live_bytes);
    accumulate(site.peak_error_bytes, format::missed_peak(entry.max_request_shared, other_threads_at(entry)));
    if (entry.allocated_count != 0) {
      site.first_tick = std::min(site.first_tick.value_or(UINT32_MAX), entry.first_tick);
      site.last_tick = std::max(site.last_tick.value_or(0), entry.last_tick);
    }
    add_age(site, entry, counters);
    add_lifetimes(site, entry, counters);
  }

  // That may count there at the same time as one does.
  uint64_t other_threads_at(const StackEntry& entry) const {
    uint64_t others = profile_.process.threads_peak > 1 ? profile_.process.threads_peak - 1 : 0;
    bool any = entry.any_thread_shares || region_.header().coverage[kSharedDenied] != 0;
    return any ? others : std::min<uint64_t>(others, format::kStripes - 1);
  }

  void add_age(Site& site, const StackEntry& entry, const Counters& counters) {
    if (counters.live_count() == 0 && counters.live_bytes() == 0) return;
    Age age{profile_.process.seconds_since(entry.first_tick), counters.freed_count != 0};
    if (age.is_bound && entry.oldest != 0) age = {profile_.process.seconds_since(entry.oldest - 1), false};
    if (!site.oldest_live || age.seconds > site.oldest_live->seconds) site.oldest_live = age;
  }

  void add_lifetimes(Site& site, const StackEntry& entry, const Counters& counters) {
    auto detail = region_.detail(entry.detail);
    if (detail && detail->stack == entry.id) {
      if (!site.lifetimes) site.lifetimes = std::make_unique<Lifetimes>();
      site.lifetimes->add(*detail);
      site.details.push_back(entry.detail);
      accumulate(site.expired_count, std::min<uint64_t>(detail->expired_count, counters.live_count()));
      accumulate(site.expired_bytes, std::min(detail->expired_bytes, counters.live_bytes()));
    } else {
      accumulate(young_frees_[&site - profile_.sites.data()], counters.freed_count);
    }
  }

 public:
  // Frees of records without detail were all young; they count where another record of the site has one.
  void add_young_frees() {
    for (auto& [index, frees] : young_frees_)
      if (auto& lifetimes = profile_.sites[index].lifetimes) accumulate(lifetimes->young_frees, frees);
  }

 private:
  const region::Region& region_;
  Profile& profile_;
  absl::flat_hash_map<uint64_t, size_t> index_;
  absl::flat_hash_map<size_t, uint64_t> young_frees_;
};

// No stack ever had more live than it allocated, nor than the whole process had.
void bound_peak_errors(Profile& profile) {
  uint64_t process = region::saturating_add(profile.totals.peak_live_bytes, profile.totals.peak_error_bytes);
  for (Site& site : profile.sites) {
    uint64_t most = std::min(process, site.counters.allocated_bytes);
    site.peak_error_bytes = most > site.peak_live_bytes ? std::min(site.peak_error_bytes, most - site.peak_live_bytes) : 0;
  }
}

void read_coverage(const Header& header, Profile& profile) {
  std::copy_n(header.coverage, profile.coverage.size(), profile.coverage.begin());
  uint64_t peak_error = profile.totals.peak_error_bytes;
  for (const Site& site : profile.sites) peak_error = std::max(peak_error, site.peak_error_bytes);
  profile.coverage[kPeakErrorBytes] = peak_error;
}

// What is live at the end was live at once; between two looks at a shared stack it may have grown past the peak seen.
void raise_peaks(Profile& profile) {
  for (Site& site : profile.sites) site.peak_live_bytes = std::max(site.peak_live_bytes, site.counters.live_bytes());
}

void read_peak(const Header& header, Totals& totals) {
  totals.peak_live_bytes = std::max(header.peak_live_bytes, totals.counters.live_bytes());
  totals.peak_error_bytes = header.live_slack_bytes;
}

}  // namespace

std::unique_ptr<Profile> build_profile(const region::Region& region, const Surroundings& surroundings) {
  auto profile = std::make_unique<Profile>();
  profile->process = read_process(region, surroundings);
  profile->timeline = read_timeline(region);
  profile->process.oom = judge_out_of_memory(region, profile->process, profile->timeline, surroundings);
  profile->modules = ModuleMap(region);
  profile->tree = std::make_unique<FrameTree>(region, profile->modules);
  profile->damage.used_pages = region.used_pages();
  profile->damage.missing_pages = region.missing_pages();
  profile->damage.misses_counters = region.misses_counters();

  Builder builder(region, *profile);
  for (const StackEntry& entry : region.stacks()) builder.add(entry);
  builder.add_young_frees();
  builder.finish();
  profile->mappings = read_mapping_sites(region, *profile->tree);

  const Header& header = region.header();
  profile->region_bytes = header.region_bytes;
  raise_peaks(*profile);
  read_peak(header, profile->totals);
  bound_peak_errors(*profile);
  read_coverage(header, *profile);
  if (std::memcmp(header.ledger.magic, kLedgerMagic, sizeof(kLedgerMagic)) == 0) profile->ledger = header.ledger;
  return profile;
}

}  // namespace tidemark::model
