#include "analyzer/output/text.h"

#include <fmt/format.h>
#include <fmt/ostream.h>

#include <algorithm>
#include <csignal>
#include <span>
#include <string>
#include <vector>

#include "analyzer/output/caches.h"
#include "analyzer/output/human.h"
#include "analyzer/output/text_frames.h"
#include "analyzer/output/text_losses.h"
#include "analyzer/output/text_mappings.h"
#include "analyzer/output/text_symbols.h"
#include "analyzer/output/text_timeline.h"
#include "analyzer/symbolize/symbolizer.h"

namespace tidemark::output {

using namespace model;

namespace {

std::string blocks(uint64_t count) { return plural(count, "block", "blocks"); }

std::string oom_sentence(const OutOfMemory& oom) {
  switch (oom.certainty) {
    case OutOfMemory::Certainty::kSeen:
      return "killed by the OOM killer (its cgroup counted it)";
    case OutOfMemory::Certainty::kInferred:
      return "killed, by the OOM killer as it seems (its cgroup is gone, the limit was near)";
    case OutOfMemory::Certainty::kPossible:
      return fmt::format("killed, perhaps by the OOM killer (its cgroup counted a kill since its last sample, of this process or of another; {})",
                         oom.limit_near ? "this one had only " + human_bytes(oom.own_bytes) : "its limit was not near");
  }
  return "";
}

std::string ending_sentence(const Process& process) {
  std::string when = local_time(process.ended_ns), duration = human_duration(process.duration_s);
  switch (process.ending) {
    case Ending::kRunning:
      if (process.snapshot) return fmt::format("a snapshot of the running process, taken at {}, after {}", when, duration);
      if (process.stopped) return fmt::format("recording was ended by `tidemark stop` at {}, after {}; the process went on", when, duration);
      return fmt::format("still running at {}, for {} so far", when, duration);
    case Ending::kExited:
      return fmt::format("exited {} at {}, after {}", process.exit_status.value_or(0), when, duration);
    case Ending::kSignaled: {
      if (process.oom) return fmt::format("{} at {}, after {}", oom_sentence(*process.oom), when, duration);
      int32_t signal = process.signal.value_or(0);
      const char* text = sigdescr_np(signal);
      return fmt::format("killed by signal {} ({}{}{}) at {}, after {}", signal, signal_name(signal), text ? ", " : "",
                         text ? text : "", when, duration);
    }
    case Ending::kKilled:
      if (process.oom) return fmt::format("{} at about {}, after {}", oom_sentence(*process.oom), when, duration);
      return fmt::format("ended unseen, by a signal (SIGTERM, SIGSEGV, SIGKILL, OOM killer), a raw exit_group or loss of power, at about {}, after {}{}",
                         when, duration, process.watched ? "" : "; `tidemark run` tells which for the process it launches");
    case Ending::kReplaced:
      return fmt::format("replaced by another program (execve) at {}, after {}", when, duration);
  }
  return "";
}

void write_process(std::ostream& out, const Report& report) {
  const Process& process = report.profile->process;
  fmt::print(out, "{} (pid {}): {}\n", process.name.empty() ? "process" : printable(process.name), process.pid,
             ending_sentence(process));
  if (process.silent_s > 5)
    fmt::print(out, "  its last sign of life is {} old: stopped, or replaced without a word\n", human_duration(process.silent_s));
  if (process.oom) {
    const OutOfMemory& oom = *process.oom;
    uint64_t live = report.profile->totals.counters.live_bytes();
    bool known = !report.profile->damage.misses_counters;
    fmt::print(out, "  limit     {}; RSS at the last sample {}\n",
               oom.limit_bytes ? human_bytes(*oom.limit_bytes) + " (cgroup)" : "none in its cgroup: the machine's memory was used up",
               oom.rss_bytes ? human_bytes(*oom.rss_bytes) : "unknown");
    fmt::print(out, "  held by   live blocks{} at the moment of death: the call stacks below, largest first{}\n",
               known ? ", " + human_bytes(live) : "", known && oom.rss_bytes && live < *oom.rss_bytes / 2 ? "; most of RSS was something else (see Process)" : "");
  }
  fmt::print(out, "  command   {}\n", printable(process.argv.empty() ? process.exe : process.command_line()));
  fmt::print(out, "  started   {}{}\n", local_time(process.started_ns),
             process.origin == format::Origin::kForked   ? fmt::format(", forked by process {}", process.ppid)
             : process.origin == format::Origin::kExeced ? fmt::format(", started by process {}", process.ppid)
                                                         : "");
  const format::Header& header = report.region->header();
  fmt::print(out, "  region    {}{}\n", printable(report.path),
             header.region_in_memory ? fmt::format(" (in memory: its {} count against the cgroup's limit)", human_bytes(header.region_bytes)) : "");
  if (process.foreign_heap)
    fmt::print(
        out,
        "\nThe executable brings its own allocator: its heap is NOT seen here. What is: the blocks that other code of the\n"
        "process takes from the C library's malloc.\n");
  if (process.heap_elsewhere)
    fmt::print(out, "\nAnother library comes before tidemark's and is this program's allocator: its heap is NOT seen here. Put libtidemark.so first in LD_PRELOAD.\n");
}

const std::string kUnknown = "unknown (the file is cut off)";

// A sum over call stacks, of which some may lie behind the end of a file that is not whole.
std::string at_least(const Profile& profile, uint64_t count, const std::string& figure) {
  if (!profile.damage.misses_counters) return figure;
  return count == 0 ? kUnknown : "at least " + figure;
}

bool has_inherited(const Totals& totals) { return totals.inherited_count != 0 || totals.inherited_bytes != 0; }

// A count that is missing may be one of blocks freed: then less is live than what is left of the file says.
std::string live_sentence(const Profile& profile) {
  const Counters& counters = profile.totals.counters;
  bool nothing = counters.live_bytes() == 0 && counters.live_count() == 0;
  std::string figure = fmt::format("{} in {}", exact_bytes(counters.live_bytes()), blocks(counters.live_count()));
  if (profile.damage.misses_counters) return kUnknown + (nothing ? "" : "; in what is left of it " + figure);
  return !nothing ? figure : has_inherited(profile.totals) ? "nothing of its own" : "nothing";
}

std::string all_live(const Profile& profile) { return profile.damage.misses_counters ? "what is left of the file" : "all that is live"; }

std::string allocation_rate(const Counters& counters, double duration_s) {
  if (duration_s < 1) return "";
  return fmt::format(", {}/s", human_bytes(uint64_t(double(counters.allocated_bytes) / duration_s)));
}

void write_totals(std::ostream& out, const Profile& profile) {
  const Totals& totals = profile.totals;
  const Counters& counters = totals.counters;
  const Process& process = profile.process;
  const char* when = process.runs_now() ? "live now   " : process.ending == Ending::kRunning ? "live then  " : "live at end";
  fmt::print(out, "\nHeap\n");
  fmt::print(out, "  {}  {}\n", when, live_sentence(profile));
  fmt::print(out, "  at peak      {}", exact_bytes(totals.peak_live_bytes));
  if (totals.peak_error_bytes != 0) fmt::print(out, ", or up to {} more", human_bytes(totals.peak_error_bytes));
  auto sum = [&](uint64_t bytes, uint64_t count) {
    return at_least(profile, count, fmt::format("{} in {}", human_bytes(bytes), blocks(count)));
  };
  fmt::print(out, "\n  allocated    {}{}\n", sum(counters.allocated_bytes, counters.allocated_count),
             profile.damage.misses_counters ? "" : allocation_rate(counters, profile.process.duration_s));
  fmt::print(out, "  freed        {}\n", sum(counters.freed_bytes, counters.freed_count));
  if (has_inherited(totals))
    fmt::print(out, "  inherited    {} in {} from the parent process, still live\n", human_bytes(totals.inherited_bytes),
               blocks(totals.inherited_count));
  if (totals.overflow.allocated_count != 0)
    fmt::print(out, "  no stack     {} of what is live, {} of all allocated bytes: the region's stack table was full\n",
               human_share(totals.overflow.live_bytes(), counters.live_bytes()),
               human_share(totals.overflow.allocated_bytes, counters.allocated_bytes));
}

std::string age_sentence(const Site& site, const Process& process) {
  std::string text;
  if (site.oldest_live)
    text = fmt::format("oldest {}{}", site.oldest_live->is_bound ? "at most " : "", human_duration(site.oldest_live->seconds));
  if (site.last_tick) {
    double ago = process.seconds_since(*site.last_tick);
    text += fmt::format("{}last allocation {} {}", text.empty() ? "" : ", ", human_duration(ago), before_what(process));
  }
  return text;
}

std::string lifetime_sentence(const Site& site) {
  uint64_t freed = site.counters.freed_count;
  if (freed == 0) return "none was ever freed";
  if (!site.details) return fmt::format("freed ones lived less than {}", human_duration(format::kDetailAgeTicks / 16.0));
  auto lifetime = quantiles(site.details->lifetimes, freed);
  if (!lifetime) return "how long freed ones lived is not known, for there was no room to note it";
  uint64_t unknown = site.details->lifetimes.unknown_frees;
  return fmt::format("freed ones lived: half up to {}, 9 in 10 up to {}, longest {}{}", human_duration(lifetime->p50),
                     human_duration(lifetime->p90), human_duration(lifetime->max),
                     unknown == 0 ? "" : fmt::format(" (of {} it is not known)", human_count(unknown)));
}

void write_site(std::ostream& out, const Profile& profile, const Site& site, size_t number, FrameWriter& frames) {
  const Counters& counters = site.counters;
  fmt::print(out, "\n#{}  {} live in {}, {} of {}   [stack {}]\n", number, human_bytes(counters.live_bytes()),
             blocks(counters.live_count()), human_share(counters.live_bytes(), profile.totals.counters.live_bytes()),
             profile.damage.misses_counters ? all_live(profile) : "all live bytes", site.stack_id);
  fmt::print(out, "    {}; {}\n", age_sentence(site, profile.process), lifetime_sentence(site));
  if (site.details && site.details->expired_count != 0)
    fmt::print(out, "    expired: {} in {}, live for longer than cache_duration\n", human_bytes(site.details->expired_bytes), blocks(site.details->expired_count));
  fmt::print(out, "    allocated {} in {}, freed {} in {}, peak {}\n", human_bytes(counters.allocated_bytes),
             human_count(counters.allocated_count), human_bytes(counters.freed_bytes), human_count(counters.freed_count),
             human_bytes(site.peak_live_bytes));
  if (site.inherited_count != 0)
    fmt::print(out, "    and {} in {} inherited from the parent process\n", human_bytes(site.inherited_bytes),
               blocks(site.inherited_count));
  frames.write(out, site);
}

void write_caches(std::ostream& out, const Caches& caches) {
  if (caches.caches.empty() && caches.errors.empty()) return;
  fmt::print(out, "\nCaches\n");
  for (const std::string& error : caches.errors) fmt::print(out, "  rules, {}\n", printable(error));
  for (const CacheTotals& cache : caches.caches) {
    fmt::print(out, "  {}: {} in {}", printable(cache.name), human_bytes(cache.bytes), plural(cache.entries, "entry", "entries"));
    if (cache.stacks == 0) fmt::print(out, ": no call stack matches");
    if (cache.entries != 0)
      fmt::print(out, ", of which {} in {} older than {}", human_bytes(cache.expired_bytes), plural(cache.expired_entries, "entry", "entries"),
                 human_duration(cache.ttl_s));
    if (cache.oldest_s) fmt::print(out, "; the oldest {}", human_duration(*cache.oldest_s));
    if (cache.lifetime) fmt::print(out, "; those that went lived: half up to {}, longest {}", human_duration(cache.lifetime->p50), human_duration(cache.lifetime->max));
    out << '\n';
  }
}

struct ShownSites {
  std::vector<const Site*> live, churn;   // churn: nothing of theirs is live any more
  size_t size() const { return live.size() + churn.size(); }
};

bool is_live(const Counters& counters) { return counters.live_bytes() != 0 || counters.live_count() != 0; }

ShownSites sites_to_show(const Profile& profile, const ReportOptions& options) {
  ShownSites shown;
  size_t looked_at = options.top == 0 ? profile.sites.size() : std::min(options.top, profile.sites.size());   // the rest is in no order
  for (const Site& site : std::span(profile.sites).first(looked_at)) {
    if (is_live(site.counters)) shown.live.push_back(&site);
    else if (options.top == 0 && site.counters.allocated_count != 0) shown.churn.push_back(&site);
  }
  std::stable_sort(shown.churn.begin(), shown.churn.end(),
                   [](const Site* a, const Site* b) { return a->counters.allocated_count > b->counters.allocated_count; });
  return shown;
}

void write_no_live_sites(std::ostream& out, const Profile& profile) {
  if (profile.process.heap_elsewhere || profile.process.foreign_heap) return;   // said above
  if (profile.damage.misses_counters) {
    out << "\nWhat is left of this file holds no call stack with a live block.\n";
    return;
  }
  const Totals& totals = profile.totals;
  bool inherited = has_inherited(totals);
  bool none = totals.counters.allocated_count == 0;
  bool uncounted = none && (profile.coverage[format::kUntrackedAllocations] != 0 || profile.coverage[format::kNestedAllocations] != 0);
  const char* why = uncounted                            ? "what was allocated could not be counted"
                    : none                               ? "nothing was allocated"
                    : inherited                          ? "every block that it allocated has been freed"
                                                         : "every block that was allocated has been freed";
  fmt::print(out, "\nNothing {}{} live: {}.", inherited ? "of its own " : "", uncounted ? "is known to be" : "is", why);
  if (inherited) fmt::print(out, " What it inherited still is, {} in {}.", human_bytes(totals.inherited_bytes), blocks(totals.inherited_count));
  out << '\n';
}

void write_live_sites(std::ostream& out, const Profile& profile, const std::vector<const Site*>& sites, FrameWriter& frames) {
  uint64_t bytes = 0;
  for (const Site* site : sites) bytes += site->counters.live_bytes();
  fmt::print(out, "\nTop {} of {} by live bytes, {} of {}\n", sites.size(), plural(profile.sites.size(), "call stack", "call stacks"),
             human_share(bytes, profile.totals.counters.live_bytes()), all_live(profile));
  for (size_t i = 0; i < sites.size(); ++i) write_site(out, profile, *sites[i], i + 1, frames);
}

void write_sites(std::ostream& out, const Profile& profile, const ShownSites& shown, FrameWriter& frames) {
  if (shown.live.empty()) write_no_live_sites(out, profile);
  else write_live_sites(out, profile, shown.live, frames);
  if (shown.churn.empty()) return;
  fmt::print(out, "\nNothing live, by blocks allocated: {}\n", plural(shown.churn.size(), "call stack", "call stacks"));
  for (size_t i = 0; i < shown.churn.size(); ++i) write_site(out, profile, *shown.churn[i], shown.live.size() + i + 1, frames);
}

std::string shell_quoted(const std::string& path) {
  static constexpr char kPlain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./+,:@%=";
  if (!path.empty() && path.find_first_not_of(kPlain) == std::string::npos) return path;
  std::string quoted = "'";
  for (char c : path) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

std::vector<std::string> next_steps(const Report& report, const FrameWriter& frames, size_t shown) {
  std::string path = printable(shell_quoted(report.path));
  std::vector<std::string> steps;
  if (report.profile->damage.missing_pages != 0)
    steps.push_back("copy the whole file again, then report on that: this one is cut off");
  if (frames.abbreviated()) steps.push_back(fmt::format("tidemark report --full {}   all frames, names in full", path));
  if (shown < report.profile->sites.size())
    steps.push_back(fmt::format("tidemark report --json {}   all {} call stacks, for other tools", path, human_count(report.profile->sites.size())));
  const Process& process = report.profile->process;
  std::string pid = process.other_pid_namespace ? "PID" : std::to_string(process.pid);
  if ((process.ending == Ending::kKilled || process.signal == SIGKILL) && !(process.oom && process.oom->certainty == OutOfMemory::Certainty::kSeen))
    steps.push_back("dmesg -T | grep -i 'killed process'   was it the OOM killer?");
  if (process.runs_now()) {
    steps.push_back(fmt::format("tidemark report {}   once more in a while: what still grows is the leak", path));
    steps.push_back(fmt::format("tidemark cleanup {}   what a purge gives back was never one", pid));
  }
  if (process.snapshot) steps.push_back(fmt::format("tidemark snapshot {}   another one in a while: what still grows is the leak", pid));
  if ((process.runs_now() || process.snapshot) && process.other_pid_namespace)
    steps.push_back(fmt::format("pgrep -x {}   its PID here: {} is the one in its container", printable(shell_quoted(process.name)), process.pid));
  return steps;
}

void write_next_steps(std::ostream& out, const std::vector<std::string>& steps) {
  if (!steps.empty()) out << "\nNext\n";
  for (const std::string& step : steps) fmt::print(out, "  {}\n", step);
}

}  // namespace

void write_text(std::ostream& out, const Report& report, const ReportOptions& options) {
  const Profile& profile = *report.profile;
  symbolize::Symbolizer symbols(profile.modules, profile.process, *options.modules, report.path);
  FrameWriter frames(profile, symbols, options.full);
  ShownSites shown = sites_to_show(profile, options);

  write_process(out, report);
  write_totals(out, profile);
  write_memory(out, profile);
  write_marks(out, profile);
  write_warnings(out, profile);
  write_caches(out, find_caches(profile, *report.region, symbols));
  write_losses(out, profile);
  write_sites(out, profile, shown, frames);
  write_mappings(out, profile, options.top, frames);
  write_symbols(out, profile, symbols);
  write_next_steps(out, next_steps(report, frames, shown.size()));
}

}  // namespace tidemark::output
