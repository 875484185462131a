// Which process a region tells of, and how it ended.
#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "analyzer/region/region.h"

namespace tidemark::model {

enum class Ending {
  kRunning,
  kExited,
  kSignaled,  // seen by `tidemark run`
  kKilled,    // unseen: a signal, the OOM killer, a raw exit_group, power
  kReplaced,  // execve
};
const char* ending_name(Ending ending);  // as in the JSON report

// What is known of this machine at this moment; a struct so that tests can make one up.
struct Surroundings {
  std::array<uint8_t, 16> boot_id{};
  uint64_t pid_namespace = 0;
  int64_t now_realtime_ns = 0;
  // Whether the process that has this pid lives (a zombie doesn't), and began at `start`, as it saw that itself.
  std::function<bool(int32_t pid, uint64_t start)> lives_here;
  // Whether a process of another pid namespace lives, by its pid there and its start time; none: cannot be said from here.
  std::function<std::optional<bool>(int32_t pid, uint64_t pid_namespace, uint64_t start)> lives_elsewhere;
  // That one's number in this program's /proc; none: it is not seen from here.
  std::function<std::optional<int32_t>(int32_t pid, uint64_t pid_namespace, uint64_t start)> number_here;

  // Processes of a cgroup that were killed for lack of memory (cgroup.h); none: there is no such cgroup (any more).
  std::function<std::optional<uint64_t>(const std::string& folder, uint64_t inode)> oom_kills;

  static Surroundings here();
  void look_at_clock();  // a command that reads many regions looks again for each
};

// The OOM killer ended it, or may have.
struct OutOfMemory {
  enum class Certainty { kSeen, kInferred, kPossible };

  std::optional<uint64_t> limit_bytes;  // of the cgroup; none: it had no limit, so the machine was full
  std::optional<uint64_t> rss_bytes;    // at the last sample
  uint64_t own_bytes = 0;               // what it had at its end, as it seems: RSS, and by how much its live blocks had grown since
  bool limit_near = true;               // at its end, as far as is known
  Certainty certainty = Certainty::kInferred;
};

struct Process {
  int32_t pid = 0, ppid = 0;
  uint32_t uid = 0, gid = 0;
  std::string name, exe, cwd, options;
  std::vector<std::string> argv;
  format::Origin origin = format::Origin::kLaunched;
  bool watched = false;         // the program that `tidemark run` launched, and waits for
  bool foreign_heap = false;    // the executable brings its own allocator
  bool heap_elsewhere = false;  // a library does that comes before tidemark's
  uint64_t run_id = 0;

  Ending ending = Ending::kKilled;
  bool ending_by_launcher = false;
  std::optional<int32_t> exit_status;
  std::optional<int32_t> signal;

  int64_t started_ns = 0;  // CLOCK_REALTIME
  int64_t ended_ns = 0;    // running: now; killed: the last sign of life
  double duration_s = 0;   // until ended_ns
  double clock_s = 0;      // of ended_ns, since tick 0: more than that in a fork child, whose ticks go on from its parent's
  double silent_s = 0;     // running: since the last sign of life
  bool snapshot = false;   // a copy made while it ran, at ended_ns
  bool stopped = false;    // recording was ended by `tidemark stop` at ended_ns; the process went on

  bool other_pid_namespace = false;  // than this program's: its pid is another one here
  std::optional<int32_t> pid_here;   // while it lives: in this program's /proc

  bool runs_now() const { return ending == Ending::kRunning && !snapshot && !stopped; }
  uint32_t threads_now = 0, threads_peak = 0;
  std::optional<OutOfMemory> oom;

  std::string command_line() const;  // argv joined with spaces
  double seconds_since(uint32_t tick) const;
};

Process read_process(const region::Region& region, const Surroundings& surroundings);

}  // namespace tidemark::model
