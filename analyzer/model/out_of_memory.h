// Whether the OOM killer ended a process.
#pragma once
#include "analyzer/model/process.h"
#include "analyzer/model/timeline.h"

namespace tidemark::model {

// For a process that SIGKILL ended, or something that left no word. `live_bytes`: of its blocks, at its end; they tell what it took after the last sample.
//
// Seen: its cgroup has counted a kill since the last sample (oom_kill of memory.events, or of memory.oom_control; both count processes of this cgroup
// that any OOM killer ended), the limit was near, and a good part of what the cgroup had was this process's: the kernel takes the largest (oom_badness
// in mm/oom_kill.c). Possible: it has counted one, but the rest is not so: the kill may have been another process's, before or since, and somebody else
// have ended this one. Inferred: the cgroup is gone, and the limit was near, or would have been reached soon at the pace of the last samples. None: neither.
std::optional<OutOfMemory> judge_out_of_memory(const region::Region& region, const Process& process, const Timeline& timeline,
                                               const Surroundings& surroundings, uint64_t live_bytes);

}  // namespace tidemark::model
