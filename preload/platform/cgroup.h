// The memory controller of the cgroup this process is in: version 2, or 1 where that one holds it (cgroups(7), and the kernel's
// admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst). Opens files: call it from a thread with a descriptor table of its own.
#pragma once
#include <cstdint>

namespace tidemark::platform {

struct Cgroup {
  bool found;
  bool version_2;
  uint32_t mount_length;   // of `folder`: where the hierarchy is mounted
  char folder[512];        // with the files of this cgroup; a container may see its own as the mount itself
  uint64_t inode;          // of `folder`: the cgroup's identity within its hierarchy, the same in every mount namespace; 0: unknown
};
// `out` is what was found before, or zero; a process can be moved. Opens files. false: there is none to be read.
bool find_cgroup(Cgroup& out);

struct CgroupMemory {
  uint64_t current, limit;              // bytes; limit: the tightest one of this cgroup and those above; UINT64_MAX: none, unknown
  uint64_t working_set;                 // current without file pages that nobody has used lately, which the kernel drops first
  uint64_t pressure;                    // "some", avg10, in hundredths of a percent; version 2 only
  uint64_t max_events, oom_kills;       // how often the limit was met; processes killed
};
void read_cgroup(const Cgroup& cgroup, CgroupMemory& out);

}  // namespace tidemark::platform
