#include "analyzer/output/json_details.h"

#include <algorithm>

#include "analyzer/output/json_values.h"

namespace tidemark::output {

using namespace format;
using region::seconds_at;

namespace {

double seconds(uint64_t ticks) { return double(ticks) / kTicksPerSecond; }

Json lifetime_json(const Detail& detail) {
  Json buckets = Json::array();
  for (uint32_t i = 1; i < kLifetimeBuckets; ++i) {
    if (detail.lifetime[i] == 0) continue;
    Json bucket;
    bucket["from_s"] = seconds(lifetime_bucket_floor(i));
    bucket["to_s"] = i + 1 < kLifetimeBuckets ? Json(seconds(lifetime_bucket_floor(i + 1))) : Json(nullptr);
    bucket["count"] = detail.lifetime[i];
    buckets.push_back(bucket);
  }
  return buckets;
}

Json cohorts_json(const Header& header, const Detail& detail) {
  Json json;
  json["width_s"] = seconds(detail.cohort_ticks);
  json["counted_at_s"] = detail.cohort_ticks == 0 ? Json(nullptr) : Json(seconds_at(header, header.coverage[kLastWalkTick]));
  json["torn"] = detail.cohort_sequence % 2 != 0;
  Json cohorts = Json::array();
  for (uint32_t i = 0; i < kCohorts; ++i)
    if (detail.cohort[i] != 0)
      cohorts.push_back({{"born_s", seconds_at(header, uint64_t(i) * detail.cohort_ticks)}, {"live", detail.cohort[i]}});
  json["cohorts"] = cohorts;
  return json;
}

Json series_json(const Detail& detail) {
  Json json;
  json["width_s"] = seconds(detail.series_ticks);
  Json points = Json::array();
  for (uint32_t i = 0; i < std::min(detail.series_used, kSeriesPoints); ++i)
    points.push_back({{"min_live_bytes", detail.series[i].min_live}, {"last_live_bytes", detail.series[i].last_live}});
  json["points"] = points;
  return json;
}

}  // namespace

Json details_json(const region::Region& region, const model::Site& site) {
  Json json = Json::array();
  if (!site.details) return json;
  for (uint32_t id : site.details->ids) {
    auto detail = region.detail(id);
    if (!detail) continue;
    Json one;
    one["stack_id"] = detail->stack;
    one["granted_s"] = seconds_at(region.header(), detail->granted_tick);
    one["deaths_before"] = detail->deaths_before;
    one["max_age_s"] = seconds(detail->max_age_ticks);
    one["lifetimes"] = lifetime_json(*detail);
    one["survivors"] = cohorts_json(region.header(), *detail);
    one["series"] = series_json(*detail);
    json.push_back(one);
  }
  return json;
}

}  // namespace tidemark::output
