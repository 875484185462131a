#include "analyzer/model/profile.h"

#include <absl/container/flat_hash_set.h>

#include <algorithm>
#include <cstring>
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

bool is_of_a_stack(const StackEntry& entry) {
  return entry.kind == StackKind::kOwn || entry.kind == StackKind::kInherited || entry.kind == StackKind::kOverflow;
}

void add_to_totals(Totals& totals, const StackEntry& entry, const Counters& counters) {
  if (entry.kind == StackKind::kInherited) {
    accumulate(totals.inherited_bytes, counters.live_bytes());
    accumulate(totals.inherited_count, counters.live_count());
    return;
  }
  totals.counters.add(counters);
  totals.peak_live_bytes = std::max(totals.peak_live_bytes, entry.peak_live_bytes);
  if (entry.kind == StackKind::kOverflow) totals.overflow.add(counters);
}

// Threads hold back what they add to the process's peak; a stack's own peak was the process's, too, at least.
void read_peak(const Header& header, Totals& totals) {
  uint64_t most = region::saturating_add(std::max(header.peak_live_bytes, totals.counters.live_bytes()), header.live_slack_bytes);
  totals.peak_live_bytes = std::max({totals.peak_live_bytes, header.peak_live_bytes, totals.counters.live_bytes()});
  totals.peak_error_bytes = most > totals.peak_live_bytes ? most - totals.peak_live_bytes : 0;
}

// For a set of sites' numbers, found by their paths.
struct ByPath {
  using is_transparent = void;
  const Sites* sites;

  const PathHash& path_of(uint32_t site) const { return (*sites)[site].path; }
  static const PathHash& path_of(const PathHash& path) { return path; }

  size_t operator()(const auto& key) const { return absl::HashOf(path_of(key)); }
  bool operator()(const auto& a, const auto& b) const { return path_of(a) == path_of(b); }
};

class Builder {
 public:
  Builder(const region::Region& region, Profile& profile)
      : region_(region), profile_(profile), of_path_(region.most_stacks(), ByPath{&profile.sites}, ByPath{&profile.sites}) { 
    profile.sites.reserve(region.most_stacks());
    young_frees_.reserve(region.most_stacks());
  }

  // Of millions of sites each is in another line of memory: some are asked for at once, so that their waits are one.
  void add(const StackEntry& entry) {
    if (!is_of_a_stack(entry)) return;
    Waiting& next = waiting_[waiting_count_++];
    next.entry = entry;
    if (entry.kind != StackKind::kOverflow) {
      next.path = profile_.paths->add(entry.leaf);
      of_path_.prefetch(next.path.hash);
    }
    if (waiting_count_ == std::size(waiting_)) add_waiting();
  }

  void finish(size_t ordered) {
    add_waiting();
    for (size_t i = 0; i < profile_.sites.size(); ++i) {
      Site& site = profile_.sites[i];
      // What is live at the end was live at once; between two looks at a shared stack it may have grown past the peak seen.
      site.peak_live_bytes = std::max(site.peak_live_bytes, site.counters.live_bytes());
      if (site.damaged) ++profile_.damage.stacks_without_frames;
      if (site.callers_unknown) add_unknown(profile_.unknown_callers, site.counters);
      // Frees of records without detail were all young; they count where another record of the site has one.
      if (site.details) accumulate(site.details->lifetimes.young_frees, young_frees_[i]);
    }
    auto end = profile_.sites.begin() + ptrdiff_t(std::min(ordered, profile_.sites.size()));
    auto by_rank = [](const Site& a, const Site& b) { return rank(a) < rank(b); };
    end == profile_.sites.end() ? std::sort(profile_.sites.begin(), end, by_rank) : std::partial_sort(profile_.sites.begin(), end, profile_.sites.end(), by_rank);
  }

 private:
  static constexpr size_t kNoSite = SIZE_MAX;
  // A block that lived when the keeper walked last may have been freed since; one that was so many times as old then is taken to live.
  static constexpr double kSurelyOlder = 8;
  struct Waiting {
    StackEntry entry;
    StackPaths::Path path;
  };

  void add_waiting() {
    for (size_t i = 0; i < waiting_count_; ++i) add_to_site(waiting_[i]);
    waiting_count_ = 0;
  }

  void add_to_site(const Waiting& waiting) {
    const StackEntry& entry = waiting.entry;
    Counters counters = Counters::of(entry);
    add_to_totals(profile_.totals, entry, counters);
    Site& site = site_for(waiting);
    ++site.records;
    site.stack_id = site.stack_id == 0 ? entry.id : std::min(site.stack_id, entry.id);
    entry.kind == StackKind::kInherited ? add_inherited(site, counters) : add_own(site, entry, counters);
  }

  static std::tuple<uint64_t, uint64_t, uint64_t, uint64_t, uint32_t> rank(const Site& site) {
    return {~site.counters.live_bytes(), ~site.counters.live_count(), ~site.inherited_bytes, ~site.counters.allocated_bytes,
            site.stack_id};
  }

  Site& site_for(const Waiting& waiting) {
    const auto& [entry, path] = waiting;
    if (entry.kind == StackKind::kOverflow) return overflow_site();
    auto place = of_path_.lazy_emplace(path.hash, [&](const auto& emplace) {
      Site& site = add_site(call_stack_of(waiting.entry.leaf, waiting.path));
      site.path = waiting.path.hash;
      emplace(uint32_t(profile_.sites.size() - 1));
    });
    return profile_.sites[*place];
  }

  static void add_unknown(UnknownCallers& unknown, const Counters& counters) {
    ++unknown.stacks;
    accumulate(unknown.allocated_count, counters.allocated_count);
    accumulate(unknown.live_bytes, counters.live_bytes());
  }

  Site& overflow_site() {
    if (overflow_ == kNoSite) {
      add_site(kOverflowStack);
      overflow_ = profile_.sites.size() - 1;
    }
    return profile_.sites[overflow_];
  }

  Site& add_site(const CallStack& stack) {
    young_frees_.push_back(0);
    Site& site = profile_.sites.emplace_back();
    static_cast<CallStack&>(site) = stack;
    return site;
  }

  void add_inherited(Site& site, const Counters& counters) {
    accumulate(site.inherited_bytes, counters.live_bytes());
    accumulate(site.inherited_count, counters.live_count());
  }

  void add_own(Site& site, const StackEntry& entry, const Counters& counters) {
    site.counters.add(counters);
    // Of several records each had its peak at another moment, or all at the same: it is between the highest and their sum.
    accumulate(site.peak_error_bytes, std::min(site.peak_live_bytes, entry.peak_live_bytes));
    site.peak_live_bytes = std::max(site.peak_live_bytes, entry.peak_live_bytes);
    accumulate(site.peak_error_bytes, format::missed_peak(entry.max_request_shared, other_threads_at(entry)));
    if (entry.allocated_count != 0) {
      site.first_tick = std::min(site.first_tick.value_or(UINT32_MAX), entry.first_tick);
      site.last_tick = std::max(site.last_tick.value_or(0), entry.last_tick);
    }
    add_age(site, entry, counters);
    add_details(site, entry, counters);
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
    if (age.is_bound && entry.oldest != 0) {
      age.seconds = profile_.process.seconds_since(entry.oldest - 1);
      age.is_bound = age.seconds < kSurelyOlder * profile_.process.seconds_since(region_.header().coverage[kLastWalkTick]);
    }
    if (!site.oldest_live || age.seconds > site.oldest_live->seconds) site.oldest_live = age;
  }

  void add_details(Site& site, const StackEntry& entry, const Counters& counters) {
    auto detail = region_.detail(entry.detail);
    bool has_detail = detail && detail->stack == entry.id;
    if (!has_detail && !entry.deaths_lost) {
      accumulate(young_frees_[size_t(&site - profile_.sites.data())], counters.freed_count);
      return;
    }
    if (!site.details) site.details = std::make_unique<SiteDetails>();
    SiteDetails& details = *site.details;
    if (!has_detail) {
      accumulate(details.lifetimes.unknown_frees, counters.freed_count);
      return;
    }
    details.lifetimes.add(*detail, entry.deaths_lost);
    details.ids.push_back(entry.detail);
    accumulate(details.expired_count, std::min<uint64_t>(detail->expired_count, counters.live_count()));
    accumulate(details.expired_bytes, std::min(detail->expired_bytes, counters.live_bytes()));
  }

  const region::Region& region_;
  Profile& profile_;
  absl::flat_hash_set<uint32_t, ByPath, ByPath, region::LargePages<uint32_t>> of_path_;
  size_t overflow_ = kNoSite;
  Waiting waiting_[32];
  size_t waiting_count_ = 0;
  std::vector<uint64_t> young_frees_;  // by site
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

}  // namespace

std::unique_ptr<Profile> build_profile(const region::Region& region, const Surroundings& surroundings, size_t ordered) {
  auto profile = std::make_unique<Profile>();
  profile->process = read_process(region, surroundings);
  profile->timeline = read_timeline(region);
  profile->modules = ModuleMap(region);
  profile->paths = std::make_unique<StackPaths>(region, profile->modules);
  profile->damage.used_pages = region.used_pages();
  profile->damage.missing_pages = region.missing_pages();
  profile->damage.misses_counters = region.misses_counters();

  Builder builder(region, *profile);
  region.for_each_stack([&](const StackEntry& entry) { builder.add(entry); });
  builder.finish(ordered);
  profile->mappings = read_mapping_sites(region, *profile->paths);

  const Header& header = region.header();
  profile->region_bytes = header.region_bytes;
  read_peak(header, profile->totals);
  bound_peak_errors(*profile);
  read_coverage(header, *profile);
  profile->process.oom = judge_out_of_memory(region, profile->process, profile->timeline, surroundings, profile->totals.counters.live_bytes());
  if (std::memcmp(header.ledger.magic, kLedgerMagic, sizeof(kLedgerMagic)) == 0) profile->ledger = header.ledger;
  return profile;
}

Totals read_totals(const region::Region& region) {
  Totals totals;
  region.for_each_stack([&](const StackEntry& entry) {
    if (is_of_a_stack(entry)) add_to_totals(totals, entry, Counters::of(entry));
  });
  read_peak(region.header(), totals);
  return totals;
}

}  // namespace tidemark::model
