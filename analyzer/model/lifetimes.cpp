#include "analyzer/model/lifetimes.h"

#include <algorithm>
#include <vector>

#include "analyzer/region/arithmetic.h"

namespace tidemark::model {

using namespace format;
using region::accumulate;

namespace {

struct Span {
  double from, to;  // seconds
  uint64_t frees;
};

double seconds(uint64_t ticks) { return double(ticks) / kTicksPerSecond; }

double upper_edge(uint32_t bucket, uint32_t max_age_ticks) {
  if (bucket + 1 < kLifetimeBuckets) return seconds(lifetime_bucket_floor(bucket + 1));
  return seconds(std::max(max_age_ticks, lifetime_bucket_floor(bucket)));
}

uint64_t counted_frees(const Lifetimes& lifetimes) {
  uint64_t sum = 0;
  for (uint32_t bucket = 1; bucket < kLifetimeBuckets; ++bucket) accumulate(sum, lifetimes.frees[bucket]);
  return sum;
}

// A free that was under way when the record was given is counted on both sides; the histogram knows its age.
uint64_t young_frees(const Lifetimes& lifetimes, uint64_t freed_count) {
  uint64_t others = counted_frees(lifetimes);
  accumulate(others, lifetimes.unknown_frees);
  return std::min(lifetimes.young_frees, region::saturating_sub(freed_count, others));
}

std::vector<Span> spans(const Lifetimes& lifetimes, uint64_t freed_count) {
  std::vector<Span> spans;
  auto buckets = lifetimes.buckets(freed_count);
  uint64_t young = young_frees(lifetimes, freed_count);
  double young_age = seconds(kDetailAgeTicks);
  uint32_t young_bucket = lifetime_bucket(kDetailAgeTicks);
  for (uint32_t bucket = 0; bucket < kLifetimeBuckets; ++bucket) {
    if (bucket == young_bucket && young != 0) spans.push_back({young_age, young_age, young});
    if (buckets[bucket] != 0)
      spans.push_back({seconds(lifetime_bucket_floor(bucket)), upper_edge(bucket, lifetimes.max_age_ticks), buckets[bucket]});
  }
  return spans;
}

double quantile(const std::vector<Span>& spans, double total, double share) {
  double rank = share * total;
  for (const Span& span : spans) {
    if (rank <= double(span.frees)) return span.from + (span.to - span.from) * rank / double(span.frees);
    rank -= double(span.frees);
  }
  return spans.back().to;
}

}  // namespace

void Lifetimes::add(const Detail& detail, bool deaths_lost) {
  for (uint32_t bucket = 1; bucket < kLifetimeBuckets; ++bucket) accumulate(frees[bucket], detail.lifetime[bucket]);
  accumulate(deaths_lost ? unknown_frees : young_frees, detail.deaths_before);
  max_age_ticks = std::max(max_age_ticks, detail.max_age_ticks);
}

void Lifetimes::add(const Lifetimes& other) {
  for (uint32_t bucket = 1; bucket < kLifetimeBuckets; ++bucket) accumulate(frees[bucket], other.frees[bucket]);
  accumulate(young_frees, other.young_frees);
  accumulate(unknown_frees, other.unknown_frees);
  max_age_ticks = std::max(max_age_ticks, other.max_age_ticks);
}

std::array<uint64_t, kLifetimeBuckets> Lifetimes::buckets(uint64_t freed_count) const {
  auto buckets = frees;
  uint64_t elsewhere = counted_frees(*this);
  accumulate(elsewhere, young_frees);
  accumulate(elsewhere, unknown_frees);
  buckets[0] = region::saturating_sub(freed_count, elsewhere);
  return buckets;
}

std::optional<Quantiles> quantiles(const Lifetimes& lifetimes, uint64_t freed_count) {
  std::vector<Span> all = spans(lifetimes, freed_count);
  if (all.empty()) return std::nullopt;
  double total = 0;
  for (const Span& span : all) total += double(span.frees);

  double max = seconds(lifetimes.max_age_ticks);
  // The largest age is kept to the tick, but only of frees after the record was given.
  if (young_frees(lifetimes, freed_count) != 0) max = std::max(max, seconds(kDetailAgeTicks));
  if (max == 0) max = all.back().to;
  return Quantiles{std::min(quantile(all, total, 0.5), max), std::min(quantile(all, total, 0.9), max), max};
}

}  // namespace tidemark::model
