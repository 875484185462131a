// How long the freed blocks of a call stack lived.
#pragma once
#include <array>
#include <cstdint>
#include <optional>

#include "preload/format/region.h"

namespace tidemark::model {

struct Lifetimes {
  std::array<uint64_t, format::kLifetimeBuckets> frees{};  // by age, format::lifetime_bucket; [0] stays 0: see freed_count
  uint64_t young_frees = 0;  // before the detail record was given: younger than kDetailAgeTicks, more is not known
  uint32_t max_age_ticks = 0;

  void add(const format::Detail& detail);
  // [0] filled in: what is in no other place of `freed_count` frees.
  std::array<uint64_t, format::kLifetimeBuckets> buckets(uint64_t freed_count) const;
};

struct Quantiles {
  double p50, p90, max;  // seconds
};

// Upper bounds, interpolated inside a bucket; nullopt when nothing was freed. Frees of unknown young age count as the oldest
// they may have been.
std::optional<Quantiles> quantiles(const Lifetimes& lifetimes, uint64_t freed_count);

}  // namespace tidemark::model
