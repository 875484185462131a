// When the keeper warns: into the region, and to the log.
#pragma once
#include <cstdint>

namespace tidemark::keeper {

// RSS (UINT64_MAX: unknown) and address space at Options::baseline_after.
void take_baseline(uint64_t rss, uint64_t vms);
void watch_rss(uint64_t rss);   // once there is a baseline
// Bytes of blocks older than Options::cache_duration.
void watch_expired(uint64_t bytes);
// What counts against the cgroup's limit; both UINT64_MAX: unknown.
void watch_cgroup(uint64_t working_set, uint64_t limit);

void forget_warnings();   // child of fork: a process of its own, with a baseline of its own

}  // namespace tidemark::keeper
