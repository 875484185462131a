#include "analyzer/model/out_of_memory.h"

#include <algorithm>
#include <csignal>
#include <cstring>

namespace tidemark::model {

namespace {

constexpr double kNear = 0.9;         // of the limit
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

// None: not known.
std::optional<bool> was_close(const Timeline& timeline, const Bytes& limit) {
  Bytes current = timeline.last(format::kCgroupCurrent);
  if (!current || !limit) return {};
  return double(*current) + pace(timeline) * kSoonSeconds >= kNear * double(*limit);
}

}  // namespace

std::optional<OutOfMemory> judge_out_of_memory(const region::Region& region, const Process& process, const Timeline& timeline,
                                               const Surroundings& surroundings) {
  if (!may_be(process)) return {};
  using Certainty = OutOfMemory::Certainty;
  OutOfMemory found{timeline.last(format::kCgroupLimit), timeline.last(format::kRss), Certainty::kInferred};
  std::optional<bool> close = was_close(timeline, found.limit_bytes);
  bool same_boot = std::memcmp(region.header().boot_id, surroundings.boot_id.data(), sizeof(region.header().boot_id)) == 0;
  std::optional<uint64_t> kills;
  if (same_boot && surroundings.oom_kills && !timeline.cgroup.empty()) kills = surroundings.oom_kills(timeline.cgroup, timeline.cgroup_inode);
  if (kills) {
    bool counted = *kills > last_counter(timeline, format::kCgroupOomKills).value_or(*kills);
    found.certainty = close.value_or(true) ? Certainty::kSeen : Certainty::kPossible;
    return counted ? std::optional(found) : std::nullopt;
  }
  return close.value_or(false) ? std::optional(found) : std::nullopt;
}

}  // namespace tidemark::model
