#include "analyzer/output/text_timeline.h"

#include <fmt/format.h>
#include <fmt/ostream.h>

#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

#include "analyzer/output/human.h"
#include "analyzer/region/arithmetic.h"

namespace tidemark::output {

using namespace model;
using region::accumulate;
using region::saturating_sub;

namespace {

void write_rss(std::ostream& out, const Timeline& timeline) {
  Bytes rss = timeline.latest(format::kRss), highest = timeline.highest(format::kRss);
  if (!rss) {
    if (!timeline.points.empty()) out << "  RSS          not known: the process could not read /proc\n";
    return;
  }
  std::string most = human_bytes(std::max(*rss, highest.value_or(0))), baseline_at = human_duration(timeline.baseline_s) + " after the start";
  if (timeline.ends_with_baseline()) {
    fmt::print(out, "  RSS          {} at the baseline ({}), highest {}", human_bytes(*rss), baseline_at, most);
    if (Bytes before = timeline.last(format::kRss)) fmt::print(out, "; {} at the last sample", human_bytes(*before));
  } else {
    fmt::print(out, "  RSS          {}, highest {}", human_bytes(*rss), most);
    if (timeline.baseline_rss)
      fmt::print(out, "; {} since {} ({})", human_change(*rss, *timeline.baseline_rss), baseline_at, human_bytes(*timeline.baseline_rss));
  }
  if (Bytes swap = timeline.last(format::kSwap); swap && *swap != 0) fmt::print(out, "; swapped out {}", human_bytes(*swap));
  out << '\n';
}

uint64_t above_zero(int64_t number) { return number > 0 ? uint64_t(number) : 0; }
uint64_t below_zero(int64_t number) { return number < 0 ? 0 - uint64_t(number) : 0; }

// Measured after the whole, a part may be more than that: then it has no share.
void write_part(std::ostream& out, uint64_t bytes, uint64_t whole, const char* name) {
  fmt::print(out, "    {:>10}  {:>6}  {}\n", human_bytes(bytes), bytes <= whole ? human_share(bytes, whole) : "", name);
}

// Where RSS is, largest part first.
void write_ledger(std::ostream& out, const Profile& profile) {
  const Timeline& timeline = profile.timeline;
  if (!timeline.ledger || timeline.ledger->rss == 0) return;
  const MeasuredLedger& ledger = *timeline.ledger;
  std::vector<std::pair<uint64_t, const char*>> parts = {{ledger.live, "live blocks"},
                                                         {ledger.rounding, "rounding up to size classes"},
                                                         {ledger.allocator, "allocator (free and partly used pages, metadata)"},
                                                         {ledger.mappings, "mappings (code, files, mmap)"},
                                                         {ledger.thread_stacks, "thread stacks"},
                                                         {ledger.tidemark, "tidemark itself"}};
  std::sort(parts.begin(), parts.end(), std::greater<>());
  fmt::print(out, "  of RSS {}   (at {})\n", human_bytes(ledger.rss), human_duration(ledger.at_s));
  for (const auto& [bytes, name] : parts)
    if (bytes != 0) write_part(out, bytes, ledger.rss, name);
  if (ledger.residual >= 0) write_part(out, uint64_t(ledger.residual), ledger.rss, "not explained");
  else fmt::print(out, "    (these are {} more than the whole: memory grew while it was measured)\n", human_bytes(below_zero(ledger.residual)));
  uint64_t own = 0;
  for (const MappingSite& site : profile.mappings) accumulate(own, site.resident_bytes);
  if (own != 0) fmt::print(out, "    of the mappings, {} were made by the program's own calls of mmap and its like\n", human_bytes(own));
  if (ledger.live_untouched != 0) fmt::print(out, "    live blocks hold {} more that was never touched\n", human_bytes(ledger.live_untouched));
}

// What one call stack gave up, another one may have taken over.
uint64_t own_growth(const Profile& profile) {
  uint64_t now = 0, then = 0;
  for (const MappingSite& site : profile.mappings) accumulate(now, site.resident_bytes), accumulate(then, site.baseline_resident_bytes);
  uint64_t mappings = saturating_sub(profile.timeline.ledger->mappings, profile.timeline.baseline_ledger->mappings);
  return std::min(saturating_sub(now, then), mappings);
}

std::string free_pages_sentence(const Profile& profile) {
  double measured = profile.timeline.ledger->at_s;
  std::string text = "into the allocator's free pages";
  for (const PurgeEntry& purge : profile.timeline.purges)
    if (purge.at_s > measured) return fmt::format("{}: the purge at {} gave back {}", text, human_duration(purge.at_s), human_bytes(purge.bytes_returned));
  return text + (profile.process.runs_now() ? ", which the next purge gives back (or `tidemark cleanup`)" : ", which a purge would have given back");
}

// Of what jemalloc holds, the part that is neither free pages nor fragmentation.
uint64_t allocator_rest(const format::RssLedger& ledger) {
  return saturating_sub(saturating_sub(ledger.allocator, ledger.allocator_free), ledger.allocator_fragmentation);
}

struct GrowthPart {
  uint64_t now, then;
  std::string words;  // empty: none of its own
};

std::vector<GrowthPart> growth_parts(const Profile& profile) {
  const format::RssLedger &now = *profile.timeline.ledger, &then = *profile.timeline.baseline_ledger;
  uint64_t own = own_growth(profile);
  std::string mapped = own == 0 ? "into mappings without a call stack (libraries, files; in a fork child also what its parent mapped)"
                                : fmt::format("into mappings, {} of it by the program's own calls of mmap (see Mappings)", human_bytes(own));
  return {{now.live, then.live, "into live blocks: the call stacks below"},
          {now.rounding, then.rounding, "into rounding up to size classes"},
          {now.allocator_fragmentation, then.allocator_fragmentation, "into fragmentation: partly used pages, which no purge gives back"},
          {now.allocator_free, then.allocator_free, free_pages_sentence(profile)},
          {allocator_rest(now), allocator_rest(then), "into the allocator's caches of threads, and its metadata"},
          {now.mappings, then.mappings, mapped},
          {now.thread_stacks, then.thread_stacks, "into stacks of threads"},
          {now.tidemark, then.tidemark, "into tidemark's own tables"},
          {above_zero(now.residual), above_zero(then.residual),
           "into what is not explained: stacks of threads that never called malloc, mappings by raw system calls"},
          // By so much parts were more than the whole: less of that is growth.
          {below_zero(then.residual), below_zero(now.residual), ""}};
}

// Since the baseline: parts of a tenth and more, largest first; together with the others they are what RSS grew by.
struct Growth {
  std::vector<std::pair<uint64_t, std::string>> parts;
  uint64_t others = 0, given_back = 0;
};

Growth growth_of(const Profile& profile, uint64_t grown) {
  Growth growth;
  for (const GrowthPart& part : growth_parts(profile)) {
    uint64_t bytes = saturating_sub(part.now, part.then);
    if (bytes >= grown / 10 && !part.words.empty()) growth.parts.emplace_back(bytes, part.words);
    else accumulate(growth.others, bytes);
    accumulate(growth.given_back, saturating_sub(part.then, part.now));
  }
  std::stable_sort(growth.parts.begin(), growth.parts.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
  return growth;
}

// In words, where RSS grew.
void write_growth(std::ostream& out, const Profile& profile) {
  constexpr uint64_t kWorthWords = 1 << 20;
  const Timeline& timeline = profile.timeline;
  uint64_t grown = timeline.growth();
  if (grown < kWorthWords) return;
  Growth growth = growth_of(profile, grown);
  if (growth.parts.empty()) return;
  uint64_t shown_from = grown / 1000;   // less would not be missed in the sum
  std::vector<std::string> words;
  for (const auto& [bytes, text] : growth.parts) words.push_back(human_bytes(bytes) + " " + text);
  if (growth.others > shown_from) words.push_back(human_bytes(growth.others) + " into others");
  std::string measured = human_duration(timeline.ledger->at_s);
  bool is_older = timeline.points.empty() || measured != human_duration(timeline.points.back().until_s);
  fmt::print(out, "  growth       {} since the baseline{}: {}\n", human_bytes(grown), is_older ? ", as of " + measured : "",
             fmt::join(words, ", and\n               "));
  if (growth.given_back > shown_from) fmt::print(out, "               less {} by which other parts are smaller now\n", human_bytes(growth.given_back));
}

void write_allocator(std::ostream& out, const Timeline& timeline) {
  Bytes allocated = timeline.last(format::kAllocated), active = timeline.last(format::kActive), dirty = timeline.last(format::kDirty),
        muzzy = timeline.last(format::kMuzzy), metadata = timeline.last(format::kMetadata);
  if (!allocated || !active) return;
  fmt::print(out, "  allocator    {} in blocks, {} in partly used pages (fragmentation), {} in free pages, {} metadata\n",
             human_bytes(*allocated), human_bytes(fragmentation(*active, *allocated)),
             human_bytes(dirty.value_or(0) + muzzy.value_or(0)), human_bytes(metadata.value_or(0)));
}

void write_cgroup(std::ostream& out, const Timeline& timeline) {
  Bytes current = timeline.last(format::kCgroupCurrent), limit = timeline.last(format::kCgroupLimit);
  if (!current || !limit) return;
  fmt::print(out, "  cgroup       {} of its limit of {}\n", human_bytes(*current), human_bytes(*limit));
}

void write_purge(std::ostream& out, const char* which, const PurgeEntry& purge) {
  fmt::print(out, "               {} at {}: {}\n", which, human_duration(purge.at_s), purge_sentence(purge));
}

void write_purges(std::ostream& out, const Timeline& timeline) {
  if (timeline.purges_made == 0) return;
  fmt::print(out, "  purges       {}, {} returned in all, the longest took {:.1f} ms\n", human_count(timeline.purges_made),
             human_bytes(timeline.purged_bytes), timeline.longest_purge_ms);
  if (timeline.purges.empty()) return;
  auto most = std::max_element(timeline.purges.begin(), timeline.purges.end(),
                               [](const PurgeEntry& a, const PurgeEntry& b) { return a.bytes_returned < b.bytes_returned; });
  if (most->bytes_returned != 0 && most != timeline.purges.end() - 1) write_purge(out, "most", *most);
  write_purge(out, "the last", timeline.purges.back());
}

}  // namespace

std::string purge_sentence(const PurgeEntry& purge) {
  const format::HeapFigures &before = purge.before, &after = purge.after;
  std::string rss;
  if (before.rss != format::kUnknown && after.rss != format::kUnknown) rss = fmt::format(", RSS {} → {}", human_bytes(before.rss), human_bytes(after.rss));
  return fmt::format("{} returned{}; fragmentation held {}", human_bytes(purge.bytes_returned), rss, human_bytes(fragmentation(after.active, after.allocated)));
}

void write_memory(std::ostream& out, const Profile& profile) {
  const Timeline& timeline = profile.timeline;
  if (timeline.points.empty() && timeline.purges_made == 0 && !timeline.baseline_rss) return;
  const char* when = profile.process.runs_now() ? "now" : "at the last sample";
  fmt::print(out, "\nProcess, {}{}\n", when, timeline.points.empty() ? "" : fmt::format(" ({} after the start)", human_duration(timeline.points.back().until_s)));
  write_rss(out, timeline);
  write_growth(out, profile);
  write_ledger(out, profile);
  write_allocator(out, timeline);
  write_cgroup(out, timeline);
  write_purges(out, timeline);
}

void write_marks(std::ostream& out, const Profile& profile) {
  if (profile.timeline.marks.empty()) return;
  fmt::print(out, "\nMarks of the program\n");
  for (const Mark& mark : profile.timeline.marks) {
    fmt::print(out, "  {} × {}, from {} to {} after the start", human_count(mark.count), printable(mark.name), human_duration(mark.first_s),
               human_duration(mark.last_s));
    if (mark.bytes_per_mark) {
      double bytes = *mark.bytes_per_mark;
      fmt::print(out, "; live bytes {} by {} from one to the next", bytes < 0 ? "fell" : "grew", human_bytes(uint64_t(bytes < 0 ? -bytes : bytes)));
    }
    out << '\n';
  }
}

void write_warnings(std::ostream& out, const Profile& profile) {
  const Timeline& timeline = profile.timeline;
  if (timeline.warnings_given == 0) return;
  constexpr size_t kShown = 8;
  fmt::print(out, "\nWarnings\n");
  size_t skipped = timeline.warnings.size() > kShown ? timeline.warnings.size() - kShown : 0;
  if (skipped != 0) fmt::print(out, "  … {} before these: --json has them\n", human_count(skipped));
  for (size_t i = skipped; i < timeline.warnings.size(); ++i)
    fmt::print(out, "  at {:<10} {}\n", human_duration(timeline.warnings[i].at_s), timeline.warnings[i].text);
}

}  // namespace tidemark::output
