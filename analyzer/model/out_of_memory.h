// Whether the OOM killer ended a process.
#pragma once
#include "analyzer/model/process.h"
#include "analyzer/model/timeline.h"

namespace tidemark::model {

// For a process that SIGKILL ended, or something that left no word. Seen: its cgroup has counted a kill since the last sample (oom_kill of
// memory.events, or of memory.oom_control; both count processes of this cgroup that any OOM killer ended). Possible: it has, but the limit was
// not near: somebody else may have sent the signal, and the OOM killer have taken another process since. Inferred: the cgroup is gone, and at the
// last sample the limit was near, or would have been reached soon at the pace of then. None: neither.
std::optional<OutOfMemory> judge_out_of_memory(const region::Region& region, const Process& process, const Timeline& timeline,
                                               const Surroundings& surroundings);

}  // namespace tidemark::model
