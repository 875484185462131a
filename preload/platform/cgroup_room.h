// Whether what lies in memory (tmpfs) may grow: all of it counts against the cgroup's limit, and no reclaim helps without swap.
#pragma once
#include <cstdint>

#include "preload/platform/cgroup.h"

namespace tidemark::platform {

// Of this cgroup and of those above: whether `bytes` more leave an eighth of each limit, and a little. true, too, where no limit is known. Files are opened,
// read and closed at once: any thread, but one at a time, and fit for the program's first call of malloc.
bool cgroup_has_room(const Cgroup& cgroup, uint64_t bytes);
bool cgroup_has_room(uint64_t bytes);   // the one this process is in

}  // namespace tidemark::platform
