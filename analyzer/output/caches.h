// The caches of a region's rules, and what they hold.
#pragma once
#include <string>
#include <vector>

#include "analyzer/model/cache_rules.h"
#include "analyzer/model/profile.h"
#include "analyzer/region/region.h"
#include "analyzer/symbolize/symbolizer.h"

namespace tidemark::output {

struct CacheTotals {
  std::string name;
  double ttl_s = 0;
  uint64_t entries = 0, bytes = 0;                  // live blocks
  uint64_t expired_entries = 0, expired_bytes = 0;  // of them older than ttl; of a ttl of the rule's own: by cohorts, never too many
  uint64_t stacks = 0;
  std::optional<double> oldest_s;
  std::optional<model::Quantiles> lifetime;         // of entries that went
};

struct Caches {
  std::vector<CacheTotals> caches;   // in the order of the rules
  std::vector<std::string> errors;
};

// Empty where the region has no rules: then nothing is looked up.
Caches find_caches(const model::Profile& profile, const region::Region& region, symbolize::Symbolizer& symbols);

}  // namespace tidemark::output
