#include "analyzer/output/text_mappings.h"

#include <fmt/format.h>
#include <fmt/ostream.h>

#include <algorithm>

#include "analyzer/output/human.h"

namespace tidemark::output {

using namespace model;

namespace {

size_t mappings_to_show(const Profile& profile, size_t top) {
  uint64_t rss = profile.timeline.ledger ? profile.timeline.ledger->rss : 0;
  uint64_t least = top == 0 ? 1 : std::max<uint64_t>(rss / 100, 1);
  auto small = std::find_if(profile.mappings.begin(), profile.mappings.end(), [&](const MappingSite& site) { return site.resident_bytes < least; });
  auto count = size_t(small - profile.mappings.begin());
  return top == 0 ? count : std::min(count, top);
}

void write_mapping(std::ostream& out, const Profile& profile, const MappingSite& site, size_t number, FrameWriter& frames) {
  fmt::print(out, "\nM{}  {} resident of {} mapped", number, human_bytes(site.resident_bytes), human_bytes(site.live_bytes()));
  if (site.growth() != 0 && profile.timeline.baseline_ledger) fmt::print(out, ", {} more than at the baseline", human_bytes(site.growth()));
  double ago = profile.process.seconds_since(site.last_tick);
  fmt::print(out, "\n    {}, the last one {} {}; mapped {}, unmapped {}, peak {}\n", plural(site.calls, "call", "calls"), human_duration(ago),
             profile.process.runs_now() ? "ago" : "before the end", human_bytes(site.mapped_bytes), human_bytes(site.unmapped_bytes),
             human_bytes(site.peak_bytes));
  frames.write(out, site);
}

}  // namespace

void write_mappings(std::ostream& out, const Profile& profile, size_t top, FrameWriter& frames) {
  size_t shown = mappings_to_show(profile, top);
  if (shown == 0) return;
  uint64_t bytes = 0;
  for (size_t i = 0; i < shown; ++i) bytes += profile.mappings[i].resident_bytes;
  fmt::print(out, "\nMappings that the program made itself (mmap, mremap, brk): {} of {}, {} resident\n", shown,
             plural(profile.mappings.size(), "call stack", "call stacks"), human_bytes(bytes));
  for (size_t i = 0; i < shown; ++i) write_mapping(out, profile, profile.mappings[i], i + 1, frames);
}

}  // namespace tidemark::output
