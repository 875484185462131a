#include "analyzer/model/process.h"

#include <time.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <memory>

#include "analyzer/model/cgroup.h"
#include "analyzer/model/process_table.h"

namespace tidemark::model {

using format::Header;

namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kFreshHeartbeat = 2 * kSecond;

std::array<uint8_t, 16> boot_id_here() {
  std::array<uint8_t, 16> id{};
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string text;
  std::getline(file, text);
  text.erase(std::remove(text.begin(), text.end(), '-'), text.end());
  for (size_t i = 0; i < id.size() && 2 * i + 1 < text.size(); ++i)
    id[i] = uint8_t(std::strtoul(text.substr(2 * i, 2).c_str(), nullptr, 16));
  return id;
}

int64_t difference(int64_t a, int64_t b) {
  int64_t result;
  return __builtin_sub_overflow(a, b, &result) ? 0 : result;
}

bool is_alive(const Header& header, const Surroundings& surroundings) {
  bool same_boot = std::memcmp(header.boot_id, surroundings.boot_id.data(), sizeof(header.boot_id)) == 0;
  if (same_boot && header.pid_namespace == surroundings.pid_namespace)
    return surroundings.lives_here && surroundings.lives_here(header.pid, header.pid_start);
  // Its number says nothing here. One that is paused lives, too, though its heart doesn't beat.
  std::optional<bool> lives;
  if (same_boot && surroundings.lives_elsewhere) lives = surroundings.lives_elsewhere(header.pid, header.pid_namespace, header.pid_start);
  if (lives) return *lives;
  // On another machine that shares the folder, or where we cannot look.
  int64_t age = difference(surroundings.now_realtime_ns, header.heartbeat_realtime_ns);
  return header.heartbeat_realtime_ns != 0 && age < kFreshHeartbeat && age > -kFreshHeartbeat;
}

// Of one that is taken to live. A copy's process may be gone by now, and a file's that was shared be another machine's.
std::optional<int32_t> number_here(const Header& header, const Surroundings& surroundings) {
  if (std::memcmp(header.boot_id, surroundings.boot_id.data(), sizeof(header.boot_id)) != 0) return std::nullopt;
  if (header.pid_namespace != surroundings.pid_namespace)
    return surroundings.number_here ? surroundings.number_here(header.pid, header.pid_namespace, header.pid_start) : std::nullopt;
  bool lives = surroundings.lives_here && surroundings.lives_here(header.pid, header.pid_start);
  return lives ? std::optional(header.pid) : std::nullopt;
}

Ending judge_ending(const Header& header, const Surroundings& surroundings) {
  if (header.snapshot_realtime_ns != 0 || header.stopped_realtime_ns != 0) return Ending::kRunning;  // then
  switch (format::Ending(header.ending)) {
    case format::Ending::kSignaled:
      return Ending::kSignaled;
    case format::Ending::kReplaced:
      return Ending::kReplaced;
    case format::Ending::kExited:
      // Noted on the way into exit handlers, which may take their time.
      return !header.ending_by_launcher && is_alive(header, surroundings) ? Ending::kRunning : Ending::kExited;
    case format::Ending::kNone:
      break;
  }
  return is_alive(header, surroundings) ? Ending::kRunning : Ending::kKilled;
}

int64_t end_of(const Header& header, Ending ending, const Surroundings& surroundings) {
  if (header.snapshot_realtime_ns != 0) return header.snapshot_realtime_ns;
  if (header.stopped_realtime_ns != 0) return header.stopped_realtime_ns;
  if (ending == Ending::kRunning) return surroundings.now_realtime_ns;
  if (ending != Ending::kKilled && header.ended_realtime_ns != 0) return header.ended_realtime_ns;
  return header.heartbeat_realtime_ns != 0 ? header.heartbeat_realtime_ns : header.started_realtime_ns;
}

double seconds_before(const Header& header) { return double(header.first_tick) / format::kTicksPerSecond; }

// Since tick 0. The monotonic clock tells most of it, so that a stepped wall clock does no harm.
double clock_at(const Header& header, int64_t ended_ns) {
  double wall = double(difference(ended_ns, header.started_realtime_ns)) / kSecond;
  if (header.heartbeat_monotonic_ns < header.started_monotonic_ns || header.heartbeat_realtime_ns == 0)
    return seconds_before(header) + std::max(0.0, wall);
  double until_heartbeat = double(difference(header.heartbeat_monotonic_ns, header.started_monotonic_ns)) / kSecond;
  double after_heartbeat = double(difference(ended_ns, header.heartbeat_realtime_ns)) / kSecond;
  return until_heartbeat + std::max(0.0, after_heartbeat);
}

// The ledger of `tidemark run` is a file without a name, a descriptor of its own; without it, the ledger is the first process's region.
bool is_of_launcher(const std::string& ledger_path) { return ledger_path.starts_with("/proc/"); }

std::vector<std::string> split_at_zeros(const std::string& text) {
  std::vector<std::string> parts;
  for (size_t from = 0; from < text.size();) {
    size_t to = std::min(text.find('\0', from), text.size());
    parts.push_back(text.substr(from, to - from));
    from = to + 1;
  }
  return parts;
}

}  // namespace

const char* ending_name(Ending ending) {
  switch (ending) {
    case Ending::kRunning:
      return "running";
    case Ending::kExited:
      return "exited";
    case Ending::kSignaled:
      return "signaled";
    case Ending::kKilled:
      return "killed";
    case Ending::kReplaced:
      return "replaced";
  }
  return "killed";
}

Surroundings Surroundings::here() {
  Surroundings result;
  result.boot_id = boot_id_here();
  result.pid_namespace = own_pid_namespace();
  result.look_at_clock();
  result.lives_here = lives_since;
  auto table = std::make_shared<ProcessTable>();
  result.lives_elsewhere = [table](int32_t pid, uint64_t pid_namespace, uint64_t start) { return table->lives(pid, pid_namespace, start); };
  result.number_here = [table](int32_t pid, uint64_t pid_namespace, uint64_t start) { return table->number_here(pid, pid_namespace, start); };
  result.oom_kills = oom_kills_of_cgroup;
  return result;
}

void Surroundings::look_at_clock() {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  now_realtime_ns = int64_t(now.tv_sec) * kSecond + now.tv_nsec;
}

std::string Process::command_line() const {
  std::string line;
  for (const std::string& argument : argv) line += (line.empty() ? "" : " ") + argument;
  return line;
}

double Process::seconds_since(uint32_t tick) const { return std::max(0.0, clock_s - double(tick) / format::kTicksPerSecond); }

Process read_process(const region::Region& region, const Surroundings& surroundings) {
  const Header& header = region.header();
  Process process;
  process.pid = header.pid;
  process.ppid = header.ppid;
  process.uid = header.uid;
  process.gid = header.gid;
  process.name = region.text(header.name);
  process.exe = region.text(header.exe);
  process.cwd = region.text(header.cwd);
  process.options = region.text(header.options);
  process.argv = split_at_zeros(region.text(header.cmdline));
  process.origin = format::Origin(header.origin);
  process.watched = process.origin == format::Origin::kLaunched && is_of_launcher(region.text(header.ledger_path));
  process.foreign_heap = (header.heap_flags & format::kHeapForeign) != 0;
  process.heap_elsewhere = !process.foreign_heap && (header.heap_flags & format::kHeapElsewhere) != 0;
  process.run_id = header.run_id;
  process.threads_now = header.threads_now;
  process.threads_peak = header.threads_peak;

  process.ending = judge_ending(header, surroundings);
  process.ending_by_launcher = header.ending_by_launcher != 0;
  if (process.ending == Ending::kExited) process.exit_status = header.exit_status;
  if (process.ending == Ending::kSignaled) process.signal = header.signal;

  process.started_ns = header.started_realtime_ns;
  process.ended_ns = end_of(header, process.ending, surroundings);
  process.clock_s = clock_at(header, process.ended_ns);
  process.duration_s = std::max(0.0, process.clock_s - seconds_before(header));
  process.snapshot = header.snapshot_realtime_ns != 0;
  process.other_pid_namespace = header.pid_namespace != surroundings.pid_namespace;
  if (process.ending == Ending::kRunning) process.pid_here = number_here(header, surroundings);
  process.stopped = header.stopped_realtime_ns != 0;
  if (process.runs_now() && header.heartbeat_realtime_ns != 0)
    process.silent_s = std::max(0.0, double(difference(process.ended_ns, header.heartbeat_realtime_ns)) / kSecond);
  return process;
}

}  // namespace tidemark::model
