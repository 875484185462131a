#include "analyzer/output/json_timeline.h"

#include "analyzer/output/json_values.h"

namespace tidemark::output {

using namespace model;

namespace {

const char* reason_name(format::PurgeReason reason) {
  switch (reason) {
    case format::PurgeReason::kInterval:
      return "interval";
    case format::PurgeReason::kControl:
      return "control";
    case format::PurgeReason::kInside:
      return "inside";
  }
  return "unknown";
}

Json heap_json(const format::HeapFigures& figures) {
  return {{"allocated", figures.allocated}, {"active", figures.active},     {"dirty", figures.dirty},
          {"muzzy", figures.muzzy},         {"retained", figures.retained}, {"metadata", figures.metadata},
          {"resident", figures.resident},   {"rss", figures.rss == format::kUnknown ? Json(nullptr) : Json(figures.rss)}};
}

Json mark_json(const Mark& mark) {
  Json json = {{"name", mark.name}, {"count", mark.count}, {"first_s", mark.first_s}, {"last_s", mark.last_s}};
  json["bytes_per_mark"] = mark.bytes_per_mark ? Json(*mark.bytes_per_mark) : Json(nullptr);
  json["points"] = Json::array();
  for (const MarkEntry& entry : mark.entries) json["points"].push_back({{"number", entry.number}, {"at_s", entry.at_s}, {"live", entry.live_bytes}});
  return json;
}

// The latest value under the gauge's own name, the range beside it where it is one.
Json point_json(const Point& point) {
  Json json = {{"at_s", point.until_s}, {"from_s", point.from_s}, {"samples", point.samples}};
  auto put = [&](const std::string& key, const Range& range) {
    json[key] = or_null(range.last);
    if (range.min != range.max) json[key + "_min"] = or_null(range.min), json[key + "_max"] = or_null(range.max);
  };
#define X(enumerator, key) put(#key, point.gauges[format::enumerator]);
  TIDEMARK_GAUGES(X)
#undef X
#define X(enumerator, key) json[#key] = or_null(point.counters[format::enumerator]);
  TIDEMARK_COUNTERS(X)
#undef X
  return json;
}

}  // namespace

Json purge_json(const PurgeEntry& purge) {
  return {{"at_s", purge.at_s},   {"ms", purge.ms}, {"reason", reason_name(purge.reason)}, {"bytes_returned", purge.bytes_returned},
          {"before", heap_json(purge.before)}, {"after", heap_json(purge.after)}};
}

Json ledger_json(const std::optional<MeasuredLedger>& measured) {
  if (!measured) return nullptr;
  const MeasuredLedger& ledger = *measured;
  Json json = {{"at_s", ledger.at_s}};
#define X(name) json[#name] = ledger.name;
  TIDEMARK_LEDGER(X)
#undef X
  json["residual"] = ledger.residual;
  return json;
}

void put_timeline(Json& json, const Timeline& timeline) {
  json["baseline"] = nullptr;
  if (timeline.baseline_rss)
    json["baseline"] = {{"at_s", timeline.baseline_s}, {"rss", or_null(timeline.baseline_rss)}, {"vms", or_null(timeline.baseline_vms)}};
  json["cgroup"] = timeline.cgroup.empty() ? Json(nullptr) : Json(timeline.cgroup);
  json["ledger"] = ledger_json(timeline.ledger);
  json["ledger_baseline"] = ledger_json(timeline.baseline_ledger);
  json["purges"] = Json::array();
  for (const PurgeEntry& purge : timeline.purges) json["purges"].push_back(purge_json(purge));
  json["purge_totals"] = {{"count", timeline.purges_made}, {"bytes_returned", timeline.purged_bytes}, {"longest_ms", timeline.longest_purge_ms}};
  json["warnings"] = Json::array();
  for (const Warning& warning : timeline.warnings)
    json["warnings"].push_back({{"at_s", warning.at_s}, {"kind", warning.kind}, {"text", warning.text}});
  json["marks"] = Json::array();
  for (const Mark& mark : timeline.marks) json["marks"].push_back(mark_json(mark));
  json["series_width_s"] = timeline.width_s;
  json["series"] = Json::array();
  for (const Point& point : timeline.points) json["series"].push_back(point_json(point));
}

}  // namespace tidemark::output
