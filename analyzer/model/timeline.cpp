#include "analyzer/model/timeline.h"

#include <algorithm>
#include <cstring>

#include "preload/format/warning_text.h"

namespace tidemark::model {

using namespace format;
using region::seconds_at;

namespace {

constexpr double kNsPerMs = 1e6;

Bytes known(uint64_t value) { return value == kUnknown ? Bytes() : Bytes(value); }

Point read_point(const Header& header, const ProcessPoint& raw) {
  Point point{seconds_at(header, raw.first_tick), seconds_at(header, std::max(raw.first_tick, raw.last_tick)), raw.samples, {}, {}};
  for (uint32_t i = 0; i < kGauges; ++i) point.gauges[i] = {known(raw.gauges[i].min), known(raw.gauges[i].max), known(raw.gauges[i].last)};
  for (uint32_t i = 0; i < kCounters; ++i) point.counters[i] = known(raw.counters[i]);
  return point;
}

Warning read_warning(const Header& header, const Event& event) {
  char text[256];
  warning_text(event, text, sizeof(text));
  return {seconds_at(header, event.tick), warning_key(EventKind(event.kind)), text};
}

// Theil and Sen: the median of the slopes between all pairs of points. Neither a jump nor a start-up bends it (P. K. Sen, Estimates of the
// regression coefficient based on Kendall's tau, JASA 63, 1968).
std::optional<double> slope(const std::vector<MarkEntry>& entries) {
  if (entries.size() < 3) return std::nullopt;
  std::vector<double> slopes;
  for (size_t i = 0; i < entries.size(); ++i)
    for (size_t k = i + 1; k < entries.size(); ++k)
      if (entries[k].number > entries[i].number)
        slopes.push_back((double(entries[k].live_bytes) - double(entries[i].live_bytes)) / double(entries[k].number - entries[i].number));
  if (slopes.empty()) return std::nullopt;
  auto middle = slopes.begin() + ptrdiff_t(slopes.size() / 2);
  std::nth_element(slopes.begin(), middle, slopes.end());
  return *middle;
}

Mark read_mark(const Header& header, const MarkRecord& raw) {
  auto seconds = [&](uint32_t tick) { return seconds_at(header, tick); };
  Mark mark{std::string(raw.name, strnlen(raw.name, sizeof(raw.name))), raw.count, seconds(raw.first_tick), seconds(raw.last_tick), {}, {}};
  bool torn = raw.sequence % 2 != 0;   // points were being thinned out: some may be there twice
  for (uint32_t i = 0; i < std::min(raw.used, kMarkPoints); ++i)
    if (!torn || mark.entries.empty() || raw.points[i].number > mark.entries.back().number)
      mark.entries.push_back({raw.points[i].number, seconds(raw.points[i].tick), raw.points[i].live});
  mark.bytes_per_mark = slope(mark.entries);
  return mark;
}

// Points that were caught while pairs of them were being joined may be there twice, or out of order.
void put_in_order(std::vector<Point>& points) {
  std::stable_sort(points.begin(), points.end(), [](const Point& a, const Point& b) { return a.from_s < b.from_s; });
  auto covered = [](const Point& a, const Point& b) { return b.from_s <= a.until_s && b.until_s <= a.until_s; };
  points.erase(std::unique(points.begin(), points.end(), covered), points.end());
}

}  // namespace

PurgeEntry read_purge(const Header& header, const Purge& raw) {
  return {seconds_at(header, raw.tick), double(raw.ns) / kNsPerMs, PurgeReason(raw.reason), raw.bytes_returned, raw.before, raw.after};
}

Bytes Timeline::at_baseline(Gauge gauge) const { return gauge == kRss ? baseline_rss : gauge == kVms ? baseline_vms : Bytes(); }

Bytes Timeline::latest(Gauge gauge) const {
  Bytes then = ends_with_baseline() ? at_baseline(gauge) : Bytes();
  return then ? then : last(gauge);
}

Bytes Timeline::last(Gauge gauge) const {
  for (auto point = points.rbegin(); point != points.rend(); ++point)
    if (point->gauges[gauge].last) return point->gauges[gauge].last;
  return {};
}

Bytes Timeline::highest(Gauge gauge) const {
  Bytes highest = at_baseline(gauge);
  for (const Point& point : points)
    if (point.gauges[gauge].max && (!highest || *point.gauges[gauge].max > *highest)) highest = point.gauges[gauge].max;
  return highest;
}

Timeline read_timeline(const region::Region& region) {
  const Header& header = region.header();
  Timeline timeline;
  timeline.width_s = double(header.series_ticks) / kTicksPerSecond;
  for (const ProcessPoint& raw : region.points()) timeline.points.push_back(read_point(header, raw));
  put_in_order(timeline.points);

  std::vector<Purge> purges = region.purges();
  std::sort(purges.begin(), purges.end(), [](const Purge& a, const Purge& b) { return a.number < b.number; });
  for (const Purge& raw : purges) timeline.purges.push_back(read_purge(header, raw));
  timeline.purges_made = std::max<uint64_t>(header.purges, timeline.purges.size());
  timeline.purged_bytes = header.purged_bytes;
  timeline.longest_purge_ms = double(header.longest_purge_ns) / kNsPerMs;

  for (const Event& event : region.events()) timeline.warnings.push_back(read_warning(header, event));
  timeline.warnings_given = std::max<uint64_t>(header.warnings, timeline.warnings.size());

  for (const MarkRecord& mark : region.marks()) timeline.marks.push_back(read_mark(header, mark));
  auto whole = [&](const RssLedger& ledger) -> std::optional<MeasuredLedger> {
    if (ledger.sequence == 0 || ledger.sequence % 2 != 0) return std::nullopt;
    return MeasuredLedger{ledger, seconds_at(header, ledger.tick)};
  };
  timeline.ledger = whole(header.rss_ledger);
  timeline.baseline_ledger = whole(header.baseline_ledger);
  if (header.baseline_tick != 0) {
    timeline.baseline_rss = header.baseline_rss;
    timeline.baseline_vms = header.baseline_vms;
    timeline.baseline_s = seconds_at(header, header.baseline_tick);
  }
  timeline.cgroup = region.text(header.cgroup);
  timeline.cgroup_inode = header.cgroup_inode;
  return timeline;
}

}  // namespace tidemark::model
