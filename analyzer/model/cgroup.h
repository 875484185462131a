// The cgroup of a process that may have run in a container.
#pragma once
#include <cstdint>
#include <optional>
#include <string>

namespace tidemark::model {

// How many processes of the cgroup any OOM killer has ended so far. `folder` is where the process saw it, which here may be another one: what counts
// is `inode`, by which it is then looked for below /sys/fs/cgroup. None: it is gone, or is on another machine.
std::optional<uint64_t> oom_kills_of_cgroup(const std::string& folder, uint64_t inode);

}  // namespace tidemark::model
