// The process over time, as the keeper noted it: samples, purges, warnings.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "analyzer/region/region.h"

namespace tidemark::model {

using Bytes = std::optional<uint64_t>;  // none: not known

struct Range {
  Bytes min, max, last;
};

struct Point {
  double from_s, until_s;  // since the process's start, as all *_s here
  uint32_t samples;
  std::array<Range, format::kGauges> gauges;
  std::array<Bytes, format::kCounters> counters;
};

// Of pages that hold live blocks, what these leave free. jemalloc counts the two at different moments.
inline uint64_t fragmentation(uint64_t active, uint64_t allocated) { return active > allocated ? active - allocated : 0; }

struct PurgeEntry {
  double at_s, ms;
  format::PurgeReason reason;
  uint64_t bytes_returned;
  format::HeapFigures before, after;
};

struct Warning {
  double at_s;
  std::string kind, text;
};

struct MarkEntry {
  uint64_t number;
  double at_s;
  uint64_t live_bytes;
};
struct Mark {
  std::string name;
  uint64_t count;
  double first_s, last_s;
  std::vector<MarkEntry> entries;         // some of them, evenly spread
  std::optional<double> bytes_per_mark;   // by which live bytes grew from one to the next; none: fewer than 3 entries
};

struct MeasuredLedger : format::RssLedger {
  double at_s;
};

struct Timeline {
  std::vector<Point> points;       // in time's order
  double width_s = 0;              // of a point
  std::vector<PurgeEntry> purges;  // the latest ones that are kept, oldest first
  uint64_t purges_made = 0, purged_bytes = 0;
  double longest_purge_ms = 0;
  std::vector<Warning> warnings;
  uint64_t warnings_given = 0;
  std::vector<Mark> marks;         // by name's first use
  Bytes baseline_rss, baseline_vms;
  double baseline_s = 0;
  std::optional<MeasuredLedger> ledger, baseline_ledger;
  std::string cgroup;              // folder of the memory controller's files, as the process saw it; empty: none
  uint64_t cgroup_inode = 0;       // of that folder

  // Of RSS since the baseline's ledger; 0: none, or not known.
  uint64_t growth() const { return ledger && baseline_ledger && ledger->rss > baseline_ledger->rss ? ledger->rss - baseline_ledger->rss : 0; }
  // A process may end between its baseline and the sample that goes with it.
  bool ends_with_baseline() const { return baseline_rss && (points.empty() || baseline_s > points.back().until_s); }
  // Of the latest sample that knows it.
  Bytes last(format::Gauge gauge) const;
  // Of that or of the baseline, which is a sample of RSS and address space.
  Bytes latest(format::Gauge gauge) const;
  Bytes highest(format::Gauge gauge) const;

 private:
  Bytes at_baseline(format::Gauge gauge) const;
};

PurgeEntry read_purge(const format::Header& header, const format::Purge& raw);
Timeline read_timeline(const region::Region& region);

}  // namespace tidemark::model
