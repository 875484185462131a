#include "analyzer/model/out_of_memory.h"

#include <algorithm>
#include <csignal>
#include <cstring>

namespace tidemark::model {

namespace {

constexpr double kNear = 0.9;         // of the limit
constexpr double kShare = 0.25;       // of what the cgroup has
constexpr double kSoonSeconds = 3.0;  // what a sample a second may have missed, and reclaim that held the end up

bool may_be(const Process& process) {
  return process.ending == Ending::kKilled || (process.ending == Ending::kSignaled && process.signal == SIGKILL);
}

Bytes last_counter(const Timeline& timeline, format::Counter counter) {
  for (auto point = timeline.points.rbegin(); point != timeline.points.rend(); ++point)
    if (point->counters[counter]) return point->counters[counter];
  return {};
}

// Bytes a second between the last two points that know it; 0 where it fell.
double pace(const Timeline& timeline) {
  const Point *last = nullptr, *before = nullptr;
  for (auto point = timeline.points.rbegin(); point != timeline.points.rend() && before == nullptr; ++point)
    if (point->gauges[format::kCgroupCurrent].last) (last == nullptr ? last : before) = &*point;
  if (before == nullptr || last->until_s <= before->until_s) return 0;
  double grown = double(*last->gauges[format::kCgroupCurrent].last) - double(*before->gauges[format::kCgroupCurrent].last);
  return std::max(0.0, grown / (last->until_s - before->until_s));
}

struct End {
  std::optional<uint64_t> limit, cgroup;  // bytes; none: not known
  uint64_t own;
  bool limit_near;
  bool may_be_chosen;  // as the largest of its cgroup
};

Bytes first_limit(const format::Header& header) {
  return header.cgroup_limit != 0 && header.cgroup_limit != UINT64_MAX ? Bytes(header.cgroup_limit) : Bytes();
}

// What was so at the end: the last sample, and by how much live blocks have grown since then.
End estimate_end(const region::Region& region, const Timeline& timeline, uint64_t live_bytes) {
  Bytes limit = timeline.last(format::kCgroupLimit), rss = timeline.last(format::kRss), live = timeline.last(format::kLive),
        cgroup = timeline.last(format::kCgroupCurrent);
  End end{timeline.points.empty() ? first_limit(region.header()) : limit, cgroup, 0, true, true};
  uint64_t grown = live_bytes - std::min(live_bytes, live.value_or(0));
  end.own = rss.value_or(0) + grown;
  if (cgroup) *end.cgroup += grown;
  else if (end.own != 0) end.cgroup = end.own;
  if (!end.cgroup) return end;
  end.may_be_chosen = double(end.own) >= kShare * double(*end.cgroup);
  if (end.limit) end.limit_near = double(*end.cgroup) + pace(timeline) * kSoonSeconds >= kNear * double(*end.limit);
  return end;
}

// Whether the cgroup has counted a kill since it was last looked at, for this process.
bool counted_one(const region::Region& region, const Timeline& timeline, uint64_t kills) {
  const format::Header& header = region.header();
  Bytes before = last_counter(timeline, format::kCgroupOomKills);
  if (!before && header.cgroup_limit != 0 && header.cgroup_oom_kills != UINT64_MAX) before = header.cgroup_oom_kills;
  return before && kills > *before;
}

}  // namespace

std::optional<OutOfMemory> judge_out_of_memory(const region::Region& region, const Process& process, const Timeline& timeline,
                                               const Surroundings& surroundings, uint64_t live_bytes) {
  if (!may_be(process)) return {};
  using Certainty = OutOfMemory::Certainty;
  End end = estimate_end(region, timeline, live_bytes);
  OutOfMemory found{end.limit, timeline.last(format::kRss), end.own, end.limit_near, Certainty::kInferred};
  bool same_boot = std::memcmp(region.header().boot_id, surroundings.boot_id.data(), sizeof(region.header().boot_id)) == 0;
  std::optional<uint64_t> kills;
  if (same_boot && surroundings.oom_kills && !timeline.cgroup.empty()) kills = surroundings.oom_kills(timeline.cgroup, timeline.cgroup_inode);
  if (!kills) return end.limit && end.limit_near && end.may_be_chosen ? std::optional(found) : std::nullopt;
  if (!counted_one(region, timeline, *kills)) return {};
  found.certainty = end.limit_near && end.may_be_chosen ? Certainty::kSeen : Certainty::kPossible;
  return found;
}

}  // namespace tidemark::model
