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
  uint64_t unknown_frees = 0;  // nothing is known of these
  uint32_t max_age_ticks = 0;

  // deaths_lost: see format::StackPage.
  void add(const format::Detail& detail, bool deaths_lost = false);
  void add(const Lifetimes& other);
  // [0] filled in: what is in no other place of `freed_count` frees.
  std::array<uint64_t, format::kLifetimeBuckets> buckets(uint64_t freed_count) const;
};

struct Quantiles {
  double p50, p90, max;  // seconds
};

// Upper bounds, interpolated inside a bucket; nullopt when nothing was freed of which an age is known. Frees of unknown young age count as
// the oldest they may have been.
std::optional<Quantiles> quantiles(const Lifetimes& lifetimes, uint64_t freed_count);

}  // namespace tidemark::model
