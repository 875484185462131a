#include "analyzer/commands/control.h"

#include <fmt/format.h>
#include <fmt/ostream.h>

#include <cstdio>
#include <filesystem>
#include <iostream>

#include "analyzer/control/mailbox.h"
#include "analyzer/control/process_region.h"
#include "analyzer/model/machine.h"
#include "analyzer/model/process_table.h"
#include "analyzer/model/profile.h"
#include "analyzer/output/caches.h"
#include "analyzer/output/human.h"
#include "analyzer/output/json_timeline.h"
#include "analyzer/output/json_values.h"
#include "analyzer/output/report.h"
#include "analyzer/output/text_stats.h"
#include "analyzer/output/text_timeline.h"
#include "analyzer/region/region.h"

namespace tidemark::commands {

namespace fs = std::filesystem;
using control::Box;
using control::ControlError;
using format::Command;
using output::Json;
using output::State;
using output::dump;
using output::or_null;
using model::Bytes;

namespace {

constexpr int kFailed = 2;
constexpr double kMiB = 1 << 20;

// Runs one command; what goes wrong becomes one line.
template <typename Body>
int guarded(const ControlArguments& arguments, Body body) try {
  std::string path = control::region_of(arguments.pid);
  body(path);
  std::cout.flush();
  return std::cout ? 0 : kFailed;
} catch (const std::exception& error) {
  std::cerr << "tidemark: " << output::printable(error.what()) << '\n';
  return kFailed;
}

Json in_mb(const Bytes& bytes) { return bytes ? Json(double(*bytes) / kMiB) : Json(nullptr); }

Json percent_of(const Bytes& part, uint64_t whole) { return part && whole != 0 ? Json(100.0 * double(*part) / double(whole)) : Json(nullptr); }

Json difference(const Bytes& now, const Bytes& then) { return now && then ? Json((double(*now) - double(*then)) / kMiB) : Json(nullptr); }

State state_of(const std::string& path) {
  region::Region region = region::Region::open(path);
  return {model::read_timeline(region), model::read_totals(region), model::read_process(region, model::Surroundings::here())};
}

// As of now, where the process could not tell: it is in a place without /proc, or behind a filter.
void look_from_here(State& state, int32_t pid) {
  std::vector<model::Point>& points = state.timeline.points;
  auto memory = model::memory_of_process(pid);
  if (!memory || state.timeline.latest(format::kRss)) return;
  if (points.empty()) points.emplace_back();
  points.back().gauges[format::kRss] = {memory->rss, memory->rss, memory->rss};
  points.back().gauges[format::kVms] = {memory->vms, memory->vms, memory->vms};
  state.rss_is_from_here = true;
}

Json usage_json(const model::Timeline& timeline, const model::Machine& machine) {
  Bytes rss = timeline.latest(format::kRss);
  return {{"rss_mb", in_mb(rss)}, {"vms_mb", in_mb(timeline.latest(format::kVms))}, {"percent", percent_of(rss, machine.memory)},
          {"available_mb", double(machine.available) / kMiB}};
}

Json increase_json(const model::Timeline& timeline, const model::Machine& machine) {
  Bytes rss = timeline.latest(format::kRss);
  Json percent = nullptr;
  if (rss && timeline.baseline_rss && machine.memory != 0)
    percent = 100.0 * (double(*rss) - double(*timeline.baseline_rss)) / double(machine.memory);
  return {{"rss_increase_mb", difference(rss, timeline.baseline_rss)},
          {"vms_increase_mb", difference(timeline.latest(format::kVms), timeline.baseline_vms)},
          {"percent_increase", percent}};
}

Json stats_json(const State& state, const ControlArguments& arguments) {
  const model::Timeline& timeline = state.timeline;
  model::Machine machine = model::Machine::here();
  Json json = {{"pid", arguments.pid}, {"name", state.process.name}, {"running_s", state.process.duration_s}};
  json["usage"] = usage_json(timeline, machine);
  json["increase"] = increase_json(timeline, machine);
  json["heap"] = {{"live_bytes", state.totals.counters.live_bytes()}, {"live_count", state.totals.counters.live_count()},
                  {"peak_live_bytes", state.totals.peak_live_bytes}};
#define X(enumerator, key) json["now"][#key] = or_null(timeline.last(format::enumerator));
  TIDEMARK_GAUGES(X)
#undef X
  json["ledger"] = output::ledger_json(timeline.ledger);
  json["purges"] = timeline.purges_made;
  json["warnings"] = timeline.warnings_given;
  return json;
}

void print_purge(const model::PurgeEntry& purge) {
  fmt::print("{}\n  live blocks hold {}; it took {:.1f} ms\n", output::purge_sentence(purge), output::human_bytes(purge.after.allocated), purge.ms);
}

output::Caches caches_of(const std::string& path) {
  model::Surroundings surroundings = model::Surroundings::here();
  output::Report report = output::Report::open(path, surroundings, 0);
  symbolize::ModuleCache modules;
  symbolize::Symbolizer symbols(report.profile->modules, report.profile->process, modules, path);
  return output::find_caches(*report.profile, *report.region, symbols);
}

// Bytes of each; a purge itself takes no entry out of a cache.
Json caches_json(const output::Caches& before, const output::Caches& after) {
  Json json = Json::object();
  for (size_t i = 0; i < before.caches.size() && i < after.caches.size(); ++i) {
    uint64_t was = before.caches[i].bytes, is = after.caches[i].bytes;
    json[before.caches[i].name] = {{"before_size", was}, {"cleaned", was > is ? was - is : 0}, {"after_size", is}};
  }
  return json;
}

// Also to another file system.
void move_file(const std::string& from, const std::string& to) {
  std::error_code error, ignored;
  fs::rename(from, to, error);
  if (!error) return;
  bool was_there = fs::exists(fs::symlink_status(to, ignored));
  fs::copy_file(from, to, fs::copy_options::overwrite_existing, error);
  if (error && !was_there) fs::remove(to, ignored);   // it may have begun, as where the disk is full
  if (error) throw ControlError(fmt::format("{}: {}; the snapshot is in {}", to, error.message(), from));
  fs::remove(from, error);
}

// By whatever name: what is written to in its place nobody would find again.
void refuse_own_region(const std::string& region, const ControlArguments& arguments) {
  std::error_code not_there;
  if (fs::equivalent(arguments.output, region, not_there))
    throw ControlError(fmt::format("{} is what process {} writes to: name another file for its snapshot", arguments.output, arguments.pid));
}

std::string beside(const std::string& region, const std::string& name) { return (fs::path(region).parent_path() / fs::path(name).filename()).string(); }

}  // namespace

int stats(const ControlArguments& arguments) {
  return guarded(arguments, [&](const std::string& path) {
    Box(path, arguments.pid).ask(Command::kStats);
    State state = state_of(path);
    look_from_here(state, arguments.pid);
    if (arguments.json) fmt::print("{}\n", dump(stats_json(state, arguments)));
    else output::write_stats(std::cout, state, arguments.pid, model::Machine::here());
  });
}

int cleanup(const ControlArguments& arguments) {
  return guarded(arguments, [&](const std::string& path) {
    Box box(path, arguments.pid);
    bool has_caches = box.header().rules.length != 0;
    output::Caches before = has_caches ? caches_of(path) : output::Caches();
    model::PurgeEntry purge = model::read_purge(box.header(), box.ask(Command::kCleanup).purge);
    if (!arguments.json) return print_purge(purge);
    Json json = {{"pid", arguments.pid}, {"purge", output::purge_json(purge)}};
    json["caches"] = caches_json(before, has_caches ? caches_of(path) : output::Caches());
    json["ledger"] = output::ledger_json(state_of(path).timeline.ledger);
    fmt::print("{}\n", dump(json));
  });
}

int snapshot(const ControlArguments& arguments) {
  return guarded(arguments, [&](const std::string& path) {
    refuse_own_region(path, arguments);
    std::string copy = beside(path, Box(path, arguments.pid).ask(Command::kSnapshot).text);
    if (!arguments.output.empty()) move_file(copy, arguments.output);
    const std::string& where = arguments.output.empty() ? copy : arguments.output;
    if (arguments.json) fmt::print("{}\n", dump({{"pid", arguments.pid}, {"file", where}}));
    else fmt::print("{}\n", output::printable(where));
  });
}

int stop(const ControlArguments& arguments) {
  return guarded(arguments, [&](const std::string& path) {
    Box(path, arguments.pid).ask(Command::kStop);
    if (arguments.json) fmt::print("{}\n", dump({{"pid", arguments.pid}, {"stopped", true}}));
    else fmt::print("recording of process {} has ended; the process goes on\n", arguments.pid);
  });
}

int set(const ControlArguments& arguments) {
  return guarded(arguments, [&](const std::string& path) {
    Box(path, arguments.pid).ask(Command::kSet, arguments.setting);
    if (arguments.json) fmt::print("{}\n", dump({{"pid", arguments.pid}, {"set", arguments.setting}}));
  });
}

}  // namespace tidemark::commands
