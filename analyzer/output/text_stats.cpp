#include "analyzer/output/text_stats.h"

#include <fmt/format.h>
#include <fmt/ostream.h>

#include <string>
#include <vector>

#include "analyzer/output/human.h"

namespace tidemark::output {

using model::Bytes;
using model::Timeline;

namespace {

// One line of the parts that are known, or none.
void write_line(std::ostream& out, const char* name, const std::vector<std::string>& parts, const char* separator = ", ") {
  if (!parts.empty()) fmt::print(out, "  {:<10}  {}\n", name, fmt::join(parts, separator));
}

std::string since_baseline(const State& state, uint64_t rss) {
  if (state.timeline.baseline_rss) return human_change(rss, *state.timeline.baseline_rss) + " since the baseline";
  return state.rss_is_from_here ? "seen from here, for the process cannot read /proc: no baseline" : "no baseline yet";
}

void write_rss(std::ostream& out, const State& state, const model::Machine& machine) {
  Bytes rss = state.timeline.latest(format::kRss);
  if (!rss) return write_line(out, "RSS", {"not known: the process cannot read /proc, nor can this command"});
  std::string now = human_bytes(*rss);
  if (machine.memory != 0)
    now += fmt::format(", {} of the machine's memory ({} of it available)", human_share(*rss, machine.memory), human_bytes(machine.available));
  write_line(out, "RSS", {now, since_baseline(state, *rss)}, "; ");
}

void write_allocator(std::ostream& out, const Timeline& timeline) {
  std::vector<std::string> parts;
  auto add = [&](format::Gauge gauge, const char* what) {
    if (Bytes bytes = timeline.last(gauge)) parts.push_back(fmt::format("{} {}", human_bytes(*bytes), what));
  };
  add(format::kActive, "active");
  add(format::kDirty, "free pages");
  add(format::kMetadata, "metadata");
  write_line(out, "allocator", parts);
}

void write_threads(std::ostream& out, const Timeline& timeline) {
  Bytes threads = timeline.last(format::kThreads), descriptors = timeline.last(format::kDescriptors);
  if (threads) write_line(out, "threads", {descriptors ? fmt::format("{}, descriptors {}", *threads, *descriptors) : std::to_string(*threads)});
  else if (descriptors) write_line(out, "descriptors", {std::to_string(*descriptors)});
}

}  // namespace

void write_stats(std::ostream& out, const State& state, int32_t pid, const model::Machine& machine) {
  const Timeline& timeline = state.timeline;
  const model::Counters& heap = state.totals.counters;
  fmt::print(out, "{} (pid {}), running for {}\n", printable(state.process.name), pid, human_duration(state.process.duration_s));
  write_rss(out, state, machine);
  write_line(out, "heap", {fmt::format("{} live in {}", human_bytes(heap.live_bytes()), plural(heap.live_count(), "block", "blocks")),
                           "at peak " + human_bytes(state.totals.peak_live_bytes)});
  write_allocator(out, timeline);
  write_threads(out, timeline);
  write_line(out, "purges", {fmt::format("{}, {} returned; warnings {}", timeline.purges_made, human_bytes(timeline.purged_bytes), timeline.warnings_given)});
}

}  // namespace tidemark::output
