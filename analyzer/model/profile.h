// What a region says, put together: the process, totals, losses, and one site for each distinct call stack.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "analyzer/model/call_stack.h"
#include "analyzer/model/lifetimes.h"
#include "analyzer/model/mapping_sites.h"
#include "analyzer/model/modules.h"
#include "analyzer/model/process.h"
#include "analyzer/model/stack_paths.h"
#include "analyzer/model/timeline.h"
#include "analyzer/region/region.h"

namespace tidemark::model {

struct Counters {
  uint64_t allocated_count = 0, allocated_bytes = 0;
  uint64_t freed_count = 0, freed_bytes = 0;  // never above allocated

  uint64_t live_count() const { return allocated_count - freed_count; }
  uint64_t live_bytes() const { return allocated_bytes - freed_bytes; }
  // A record caught in the middle of a change may say freed > allocated: then nothing is live.
  static Counters of(const region::StackEntry& entry);
  void add(const Counters& more);
};

struct Totals {
  Counters counters;
  uint64_t inherited_count = 0, inherited_bytes = 0;  // inherited at fork, still live
  uint64_t peak_live_bytes = 0;
  uint64_t peak_error_bytes = 0;  // what the peak may miss
  Counters overflow;              // the part without a stack
};

// What the reader itself could not get from the file.
struct Damage {
  uint64_t used_pages = 0, missing_pages = 0;
  bool misses_counters = false;        // of stacks, on missing pages: what is live, allocated and freed is not known
  uint64_t stacks_without_frames = 0;  // a node was unreadable
  bool any() const { return missing_pages != 0 || stacks_without_frames != 0; }
};

// Stacks that begin outside of all modules.
struct UnknownCallers {
  uint64_t stacks = 0, allocated_count = 0, live_bytes = 0;
};

struct Age {
  double seconds;
  bool is_bound;  // nothing live is older, but the oldest may well be younger
};

// Of the blocks of a stack that earned detail records, or found no room for one.
struct SiteDetails {
  Lifetimes lifetimes;
  uint64_t expired_count = 0, expired_bytes = 0;  // live for longer than the option cache_duration, as of the last walk
  std::vector<uint32_t> ids;
};

struct Site : CallStack {
  PathHash path;
  uint32_t stack_id = 0;  // the smallest one of the records merged here
  uint32_t records = 0;   // how many those are

  Counters counters;
  uint64_t inherited_count = 0, inherited_bytes = 0;  // inherited at fork, still live
  uint64_t peak_live_bytes = 0;
  uint64_t peak_error_bytes = 0;
  std::optional<uint32_t> first_tick, last_tick;  // of an allocation
  std::optional<Age> oldest_live;
  std::unique_ptr<SiteDetails> details;  // null: the stack never earned one
};

using Sites = std::vector<Site, region::LargePages<Site>>;

struct Profile {
  Process process;
  uint64_t region_bytes = 0;  // as created
  Totals totals;
  std::array<uint64_t, format::kCoverageCount> coverage{};
  Damage damage;
  UnknownCallers unknown_callers;
  Timeline timeline;
  format::RunLedger ledger{};  // of the first region of a run without `tidemark run`; else zero
  ModuleMap modules;
  std::unique_ptr<StackPaths> paths;
  Sites sites;  // as many as are to be in order by live bytes, then live count, inherited bytes, allocated bytes, stack id; then the rest

  std::vector<MappingSite> mappings;

  std::vector<Frame> frames(const CallStack& stack) const { return paths->frames(stack.leaf); }
};

inline constexpr size_t kAllSites = SIZE_MAX;

// `region` must outlive the profile. ordered: how many sites, the first ones, are to be in order: millions are not put in order for ten.
// Never fails: what cannot be read is counted in Profile::damage.
std::unique_ptr<Profile> build_profile(const region::Region& region, const Surroundings& surroundings, size_t ordered = kAllSites);

// The same totals, without looking at any stack's frames.
Totals read_totals(const region::Region& region);

}  // namespace tidemark::model
