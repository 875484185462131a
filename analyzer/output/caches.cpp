#include "analyzer/output/caches.h"

#include <algorithm>
#include <memory>
#include <span>

#include "analyzer/region/arithmetic.h"

namespace tidemark::output {

using namespace model;
using region::accumulate;

namespace {

double seconds(uint64_t ticks) { return double(ticks) / format::kTicksPerSecond; }

// Entries born before `ttl` ago as of the last walk, whole cohorts of them.
uint64_t older_than(const format::Detail& detail, double ttl_s, uint64_t walk_tick) {
  uint64_t count = 0;
  for (uint32_t i = 0; i < format::kCohorts; ++i)
    if (seconds((uint64_t(i) + 1) * detail.cohort_ticks) + ttl_s <= seconds(walk_tick)) count += detail.cohort[i];
  return count;
}

std::span<const uint32_t> details_of(const Site& site) { return site.details ? std::span<const uint32_t>(site.details->ids) : std::span<const uint32_t>(); }

class Finder {
 public:
  Finder(const Profile& profile, const region::Region& region, symbolize::Symbolizer& symbols)
      : profile_(profile), region_(region), symbols_(symbols) {}

  Caches find() {
    CacheRules rules = CacheRules::parse(region_.text(region_.header().rules));
    Caches result{{}, rules.errors};
    double standard = double(region_.header().expiry_ms) / 1000;
    for (const CacheRule& rule : rules.rules) result.caches.push_back({rule.name, rule.ttl_s.value_or(standard), 0, 0, 0, 0, 0, {}, {}});
    std::vector<Lifetimes> lifetimes(rules.rules.size());
    std::vector<uint64_t> freed(rules.rules.size());
    for (const Site& site : profile_.sites) {
      if (rules.rules.empty()) break;
      size_t which = rule_of(site, rules.rules);
      if (which == rules.rules.size()) continue;
      add(result.caches[which], site, rules.rules[which]);
      if (site.details) lifetimes[which].add(site.details->lifetimes);
      accumulate(freed[which], site.counters.freed_count);
    }
    for (size_t i = 0; i < rules.rules.size(); ++i) result.caches[i].lifetime = quantiles(lifetimes[i], freed[i]);
    return result;
  }

 private:
  size_t rule_of(const Site& site, const std::vector<CacheRule>& rules) {
    size_t first = rules.size();
    for (const Frame& frame : profile_.frames(site))
      for (const symbolize::SourceFrame& source : symbols_.find(frame))
        for (size_t i = 0; i < first; ++i)
          if (rules[i].matches(source.function)) first = i;
    return first;
  }

  void add(CacheTotals& cache, const Site& site, const CacheRule& rule) {
    ++cache.stacks;
    accumulate(cache.entries, site.counters.live_count());
    accumulate(cache.bytes, site.counters.live_bytes());
    if (site.oldest_live) cache.oldest_s = std::max(cache.oldest_s.value_or(0), site.oldest_live->seconds);
    if (!rule.ttl_s) {
      if (!site.details) return;
      accumulate(cache.expired_entries, site.details->expired_count);
      accumulate(cache.expired_bytes, site.details->expired_bytes);
      return;
    }
    uint64_t count = 0;
    for (uint32_t id : details_of(site))
      if (auto detail = region_.detail(id)) count += older_than(*detail, *rule.ttl_s, profile_.coverage[format::kLastWalkTick]);
    count = std::min(count, site.counters.live_count());
    accumulate(cache.expired_entries, count);
    if (site.counters.live_count() != 0)
      accumulate(cache.expired_bytes, uint64_t(double(site.counters.live_bytes()) * double(count) / double(site.counters.live_count())));
  }

  const Profile& profile_;
  const region::Region& region_;
  symbolize::Symbolizer& symbols_;
};

}  // namespace

Caches find_caches(const Profile& profile, const region::Region& region, symbolize::Symbolizer& symbols) {
  return region.header().rules.length == 0 ? Caches() : Finder(profile, region, symbols).find();
}

}  // namespace tidemark::output
