#include "analyzer/output/text_mappings.h"

#include <fmt/format.h>
#include <fmt/ostream.h>

#include <algorithm>
#include <vector>

#include "analyzer/output/human.h"

namespace tidemark::output {

using namespace model;

namespace {

// The ledger knows nothing of what came after it: that is shown by its address space.
bool is_measured(const Profile& profile, const MappingSite& site) {
  return profile.timeline.ledger && (site.resident_bytes != 0 || site.last_tick < profile.timeline.ledger->tick);
}

uint64_t size_of(const Profile& profile, const MappingSite& site) { return is_measured(profile, site) ? site.resident_bytes : site.live_bytes(); }

std::vector<const MappingSite*> mappings_to_show(const Profile& profile, size_t top) {
  const Timeline& timeline = profile.timeline;
  uint64_t least = top == 0 || !timeline.ledger ? 1 : std::max<uint64_t>(timeline.ledger->rss / 100, 1);
  uint64_t least_growth = std::max<uint64_t>(timeline.growth() / 10, 1);
  std::vector<const MappingSite*> shown;
  for (const MappingSite& site : profile.mappings)
    if (size_of(profile, site) >= least || site.growth() >= least_growth) shown.push_back(&site);
  std::stable_sort(shown.begin(), shown.end(), [&](auto* a, auto* b) { return size_of(profile, *a) > size_of(profile, *b); });
  if (top != 0 && shown.size() > top) shown.resize(top);
  return shown;
}

void write_mapping(std::ostream& out, const Profile& profile, const MappingSite& site, size_t number, FrameWriter& frames) {
  fmt::print(out, "\nM{}  ", number);
  if (is_measured(profile, site)) fmt::print(out, "{} resident, {} mapped", human_bytes(site.resident_bytes), human_bytes(site.live_bytes()));
  else fmt::print(out, "{} mapped, after RSS was looked at", human_bytes(site.live_bytes()));
  if (site.growth() != 0 && profile.timeline.baseline_ledger) fmt::print(out, "; {} more than at the baseline", human_bytes(site.growth()));
  fmt::print(out, "\n    {}, the last one {} {}; mapped {}, unmapped {}, peak {}\n", plural(site.calls, "call", "calls"),
             human_duration(profile.process.seconds_since(site.last_tick)), before_what(profile.process), human_bytes(site.mapped_bytes),
             human_bytes(site.unmapped_bytes), human_bytes(site.peak_bytes));
  frames.write(out, site);
}

}  // namespace

void write_mappings(std::ostream& out, const Profile& profile, size_t top, FrameWriter& frames) {
  std::vector<const MappingSite*> shown = mappings_to_show(profile, top);
  if (shown.empty()) return;
  fmt::print(out, "\nMappings that the program made itself (mmap, mremap, brk): {} of {}", shown.size(),
             plural(profile.mappings.size(), "call stack", "call stacks"));
  if (profile.timeline.ledger) fmt::print(out, "; resident as of {}", human_duration(profile.timeline.ledger->at_s));
  out << '\n';
  for (size_t i = 0; i < shown.size(); ++i) write_mapping(out, profile, *shown[i], i + 1, frames);
}

}  // namespace tidemark::output
