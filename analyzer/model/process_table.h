// What /proc tells of processes.
#pragma once
#include <cstdint>
#include <optional>
#include <unordered_map>

namespace tidemark::model {

// Start time of a process that lives (a zombie doesn't), in clock ticks since boot, as it is seen from this program's time namespace.
std::optional<uint64_t> start_of_process(int32_t pid);

// Whether that is the process that read `start` as its own start time, which it did in its time namespace.
bool lives_since(int32_t pid, uint64_t start);

// What the kernel tells of a process's memory, in bytes.
struct MemoryUse {
  uint64_t rss, vms;
};
std::optional<MemoryUse> memory_of_process(int32_t pid);

// The last number of NSpid: its pid in each namespace, from that of our /proc to its own.
std::optional<int32_t> pid_in_its_namespace(int32_t pid);

uint64_t own_pid_namespace();  // 0: unknown

// Finds processes of other pid namespaces, whose numbers there mean nothing here. /proc is read when it is asked for the first time, and only
// then: a folder may hold thousands of regions.
class ProcessTable {
 public:
  // Whether the process that has this pid in that namespace, and began at `start`, lives. None: it may be where we cannot look.
  std::optional<bool> lives(int32_t pid, uint64_t pid_namespace, uint64_t start);
  // Its number in our /proc. None: it doesn't live, or is not seen from here.
  std::optional<int32_t> number_here(int32_t pid, uint64_t pid_namespace, uint64_t start);

 private:
  struct Found {
    std::optional<int32_t> number;
    bool saw_all = true;  // of those that it could be
  };
  Found find(int32_t pid, uint64_t pid_namespace, uint64_t start);
  void read();

  std::unordered_multimap<int32_t, int32_t> numbers_;  // from a process's pid in its own namespace to the one in our /proc
  bool was_read_ = false;
  bool shows_all_ = false;  // processes of this machine
};

}  // namespace tidemark::model
