#include "analyzer/output/json.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "analyzer/output/caches.h"
#include "analyzer/output/human.h"
#include "analyzer/output/json_details.h"
#include "analyzer/output/json_timeline.h"
#include "analyzer/output/json_values.h"
#include "analyzer/symbolize/symbolizer.h"

namespace tidemark::output {

using namespace model;

namespace {

const char* origin_name(format::Origin origin) {
  switch (origin) {
    case format::Origin::kLaunched:
      return "launched";
    case format::Origin::kExeced:
      return "execed";
    case format::Origin::kForked:
      return "forked";
  }
  return "unknown";
}

const char* certainty_name(OutOfMemory::Certainty certainty) {
  switch (certainty) {
    case OutOfMemory::Certainty::kSeen:
      return "seen";
    case OutOfMemory::Certainty::kInferred:
      return "inferred";
    case OutOfMemory::Certainty::kPossible:
      return "possible";
  }
  return "unknown";
}

Json process_json(const Process& process) {
  Json json;
  json["pid"] = process.pid;
  json["ppid"] = process.ppid;
  json["uid"] = process.uid;
  json["name"] = process.name;
  json["exe"] = process.exe;
  json["cmdline"] = process.command_line();
  json["argv"] = process.argv;
  json["cwd"] = process.cwd;
  json["origin"] = origin_name(process.origin);
  json["run_id"] = fmt::format("{:016x}", process.run_id);
  json["options"] = process.options;
  json["started_at"] = iso_time(process.started_ns);
  json["ended_at"] = process.runs_now() ? Json(nullptr) : Json(iso_time(process.ended_ns));
  json["duration_s"] = process.duration_s;
  json["ending"] = ending_name(process.ending);
  json["snapshot"] = process.snapshot;
  json["stopped"] = process.stopped;
  json["exit_status"] = or_null(process.exit_status);
  json["signal"] = or_null(process.signal);
  json["signal_name"] = process.signal ? Json(signal_name(*process.signal)) : Json(nullptr);
  json["oom"] = nullptr;
  if (process.oom)
    json["oom"] = {{"limit_bytes", or_null(process.oom->limit_bytes)}, {"rss_bytes", or_null(process.oom->rss_bytes)},
                   {"own_bytes", process.oom->own_bytes}, {"certainty", certainty_name(process.oom->certainty)}};
  json["threads_now"] = process.threads_now;
  json["threads_peak"] = process.threads_peak;
  json["foreign_heap"] = process.foreign_heap;
  json["heap_elsewhere"] = process.heap_elsewhere;
  return json;
}

void put_counters(Json& json, const Counters& counters) {
  json["allocated_bytes"] = counters.allocated_bytes;
  json["allocated_count"] = counters.allocated_count;
  json["freed_bytes"] = counters.freed_bytes;
  json["freed_count"] = counters.freed_count;
  json["live_bytes"] = counters.live_bytes();
  json["live_count"] = counters.live_count();
}

Json totals_json(const Totals& totals) {
  Json json;
  put_counters(json, totals.counters);
  json["peak_live_bytes"] = totals.peak_live_bytes;
  json["peak_error_bytes"] = totals.peak_error_bytes;
  json["inherited_bytes"] = totals.inherited_bytes;
  json["inherited_count"] = totals.inherited_count;
  return json;
}

Json coverage_json(const Profile& profile) {
  Json json;
#define X(enumerator, key, text) json[#key] = profile.coverage[format::enumerator];
  TIDEMARK_LOSSES(X)
  TIDEMARK_FACTS(X)
#undef X
  json["missing_pages"] = profile.damage.missing_pages;
  json["stacks_without_frames"] = profile.damage.stacks_without_frames;
  return json;
}

Json refusals_json(const format::RunLedger& ledger) {
  Json notes = Json::array();
  uint32_t kept = std::min(ledger.refused, format::kRefusalNotes);
  for (uint32_t i = 0; i < kept; ++i) {
    const format::RefusalNote& note = ledger.notes[i];
    if (note.reason == 0) continue;
    Json json;
    json["pid"] = note.pid;
    json["name"] = bounded_text(note.name);
    json["reason"] = refusal_text(note.reason);
    json["detail"] = bounded_text(note.detail);
    json["error"] = note.error;
    notes.push_back(json);
  }
  return notes;
}

class SiteWriter {
 public:
  SiteWriter(const Report& report, const ReportOptions& options, symbolize::Symbolizer& symbols)
      : report_(report), profile_(*report.profile), options_(options), symbols_(symbols) {}

  void write(std::ostream& out, const Site& site) { write(out, site_json(site), site); }
  void write(std::ostream& out, const MappingSite& site) { write(out, mapping_json(site), site); }

 private:
  void write(std::ostream& out, const Json& json, const CallStack& stack) {
    std::string text = dump(json);
    text.back() = ',';  // its closing brace
    out << text << "\"frames\":[";
    const char* separator = "";
    for (const Frame& frame : profile_.frames(stack)) {
      out << separator << frame_text(frame);
      separator = ",";
    }
    out << "]}";
  }

  double seconds_at(uint32_t tick) const { return region::seconds_at(report_.region->header(), tick); }

  static void put_stack(Json& json, const CallStack& stack) {
    json["overflow"] = stack.overflow;
    json["truncated"] = stack.truncated;
    json["damaged"] = stack.damaged;
    if (stack.callers_unknown) json["callers_unknown"] = true;
  }

  Json mapping_json(const MappingSite& site) {
    Json json = {{"resident_bytes", site.resident_bytes}, {"baseline_resident_bytes", site.baseline_resident_bytes},
                 {"live_bytes", site.live_bytes()},       {"mapped_bytes", site.mapped_bytes},
                 {"unmapped_bytes", site.unmapped_bytes}, {"peak_bytes", site.peak_bytes},
                 {"calls", site.calls}};
    json["first_s"] = seconds_at(site.first_tick);
    json["last_s"] = seconds_at(site.last_tick);
    put_stack(json, site);
    return json;
  }

  Json site_json(const Site& site) {
    Json json;
    json["stack_id"] = site.stack_id;
    json["live_bytes"] = site.counters.live_bytes();
    json["live_count"] = site.counters.live_count();
    put_counters(json, site.counters);
    json["peak_live_bytes"] = site.peak_live_bytes;
    json["peak_error_bytes"] = site.peak_error_bytes;
    json["inherited_live_bytes"] = site.inherited_bytes;
    json["inherited_live_count"] = site.inherited_count;
    put_times(json, site);
    json["expired_count"] = site.details ? site.details->expired_count : 0;
    json["expired_bytes"] = site.details ? site.details->expired_bytes : 0;
    put_stack(json, site);
    json["merged"] = site.records;
    if (options_.details) json["details"] = details_json(*report_.region, site);
    return json;
  }

  void put_times(Json& json, const Site& site) {
    auto in_seconds = [this](const std::optional<uint32_t>& tick) { return tick ? Json(seconds_at(*tick)) : Json(nullptr); };
    json["first_s"] = in_seconds(site.first_tick);
    json["last_s"] = in_seconds(site.last_tick);
    json["oldest_live_s"] = site.oldest_live ? Json(site.oldest_live->seconds) : Json(nullptr);
    json["oldest_live_is_bound"] = site.oldest_live && site.oldest_live->is_bound;
    std::optional<Quantiles> lifetime;
    if (site.details) lifetime = quantiles(site.details->lifetimes, site.counters.freed_count);
    json["lifetime_s"] = nullptr;
    if (lifetime) json["lifetime_s"] = {{"p50", lifetime->p50}, {"p90", lifetime->p90}, {"max", lifetime->max}};
    json["lifetime_unknown_count"] = site.details ? site.details->lifetimes.unknown_frees : 0;
    json["lifetime_below_s"] = nullptr;
    if (!site.details && site.counters.freed_count != 0)
      json["lifetime_below_s"] = double(format::kDetailAgeTicks) / format::kTicksPerSecond;
  }

  // The same frames occur in thousands of sites: each is put into words once.
  const std::string& frame_text(const Frame& frame) {
    std::string& text = frame_texts_[{frame.module, frame.offset, frame.exact, frame.guessed}];
    if (!text.empty()) return text;
    for (const symbolize::SourceFrame& source : symbols_.find(frame)) {
      if (!text.empty()) text += ',';
      text += dump(frame_json(frame, source));
    }
    return text;
  }

  Json frame_json(const Frame& frame, const symbolize::SourceFrame& source) {
    Json json;
    bool known = frame.module < profile_.modules.files().size();
    json["function"] = source.function.empty() ? Json(nullptr) : Json(source.function);
    json["module"] = known ? Json(profile_.modules.files()[frame.module].path) : Json(nullptr);
    json["file"] = source.file.empty() ? Json(nullptr) : Json(source.file);
    json["line"] = source.line == 0 ? Json(nullptr) : Json(source.line);
    json["inlined"] = source.inlined;
    json["offset"] = fmt::format("{:#x}", frame.offset);
    if (frame.guessed) json["guessed"] = true;
    if (!known && !frame.signal) json["generated"] = true;
    return json;
  }

  std::map<std::tuple<uint32_t, uint64_t, bool, bool>, std::string> frame_texts_;
  const Report& report_;
  const Profile& profile_;
  const ReportOptions& options_;
  symbolize::Symbolizer& symbols_;
};

Json unknown_callers_json(const UnknownCallers& unknown) {
  return {{"stacks", unknown.stacks}, {"allocated_count", unknown.allocated_count}, {"live_bytes", unknown.live_bytes}};
}

Json cache_json(const CacheTotals& cache) {
  Json json = {{"name", cache.name}, {"ttl_s", cache.ttl_s}, {"entries", cache.entries}, {"bytes", cache.bytes},
               {"expired_entries", cache.expired_entries}, {"expired_bytes", cache.expired_bytes}, {"stacks", cache.stacks}};
  json["oldest_s"] = or_null(cache.oldest_s);
  json["lifetime_s"] = nullptr;
  if (cache.lifetime) json["lifetime_s"] = {{"p50", cache.lifetime->p50}, {"p90", cache.lifetime->p90}, {"max", cache.lifetime->max}};
  return json;
}

void put_caches(Json& json, const Caches& caches) {
  json["caches"] = Json::array();
  for (const CacheTotals& cache : caches.caches) json["caches"].push_back(cache_json(cache));
  if (!caches.errors.empty()) json["rules_errors"] = caches.errors;
}

Json modules_json(const Profile& profile, const symbolize::Symbolizer& symbols) {
  Json modules = Json::array();
  auto states = symbols.states();
  for (uint32_t i = 0; i < profile.modules.files().size(); ++i) {
    const ModuleFile& file = profile.modules.files()[i];
    Json json;
    json["path"] = file.path;
    json["build_id"] = file.build_id.empty() ? Json(nullptr) : Json(file.build_id_hex());
    auto state = states.find(i);
    json["symbols"] = state == states.end() ? Json(nullptr) : Json(symbolize::state_name(state->second));
    modules.push_back(json);
  }
  return modules;
}

}  // namespace

// Written piece by piece: a region may hold 100,000 sites.
void write_json(std::ostream& out, const Report& report, const ReportOptions& options) {
  const Profile& profile = *report.profile;
  symbolize::Symbolizer symbols(profile.modules, profile.process, *options.modules, report.path);
  Json process = process_json(profile.process);
  process["region_in_memory"] = report.region->header().region_in_memory != 0;
  out << "{\"region\":" << dump(Json(report.path)) << ",\n\"truncated\":" << dump(Json(profile.damage.missing_pages != 0)) << ",\n\"process\":" << dump(process)
      << ",\n\"totals\":" << dump(totals_json(profile.totals)) << ",\n\"coverage\":" << dump(coverage_json(profile))
      << ",\n\"refusals\":" << dump(refusals_json(profile.ledger));
  Json timeline;
  put_timeline(timeline, profile.timeline);
  put_caches(timeline, find_caches(profile, *report.region, symbols));
  for (const auto& [key, value] : timeline.items()) out << ",\n\"" << key << "\":" << dump(value);
  SiteWriter writer(report, options, symbols);
  auto write_sites = [&](const char* name, const auto& sites) {
    out << ",\n\"" << name << "\":[";
    size_t shown = options.top == 0 ? sites.size() : std::min(options.top, sites.size());
    for (size_t i = 0; i < shown; ++i) {
      out << (i == 0 ? "\n" : ",\n");
      writer.write(out, sites[i]);
    }
    out << "]";
  };
  out << ",\n\"callers_unknown\":" << dump(unknown_callers_json(profile.unknown_callers));
  out << ",\n\"sites_total\":" << profile.sites.size();
  write_sites("sites", profile.sites);
  out << ",\n\"mapping_sites_total\":" << profile.mappings.size();
  write_sites("mapping_sites", profile.mappings);
  out << ",\n\"modules\":" << dump(modules_json(profile, symbols)) << "}";
}

}  // namespace tidemark::output
