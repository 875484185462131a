#include "analyzer/model/process_table.h"

#include <sys/stat.h>
#include <unistd.h>

#include <charconv>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace tidemark::model {

namespace fs = std::filesystem;

namespace {

constexpr uint64_t kInitialPidNamespace = 0xEFFFFFFC;  // the inode that Linux gives it: PROC_PID_INIT_INO

std::string folder_of(int32_t pid) { return "/proc/" + std::to_string(pid); }

std::optional<int32_t> number_of(const std::string& name) {
  int32_t number = 0;
  auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  return error == std::errc() && end == name.data() + name.size() ? std::optional(number) : std::nullopt;
}

uint64_t pid_namespace_at(const std::string& folder) {
  struct stat status;
  return stat((folder + "/ns/pid").c_str(), &status) == 0 ? status.st_ino : 0;
}

// What the kernel adds to the time since boot for those in a process's time namespace; zero where there are no such namespaces.
struct BootOffset {
  int64_t seconds = 0, nanoseconds = 0;
};

// The file tells of the namespace of its children, which is its own, but for one that made it and stayed where it was: whose start is as we see it.
BootOffset boot_offset_at(const std::string& folder) {
  std::ifstream file(folder + "/timens_offsets");
  std::string clock;
  for (BootOffset offset; file >> clock >> offset.seconds >> offset.nanoseconds;)
    if (clock == "boottime") return offset;
  return {};
}

// A start time that is `here` to us may be this one, or one more, to that process: ticks are cut after the offset was added.
uint64_t start_seen_by(int32_t pid, uint64_t here) {
  const int64_t ticks = sysconf(_SC_CLK_TCK), tick_ns = 1'000'000'000 / ticks;
  BootOffset ours = boot_offset_at("/proc/self"), theirs = boot_offset_at(folder_of(pid));
  int64_t rest = theirs.nanoseconds - ours.nanoseconds;
  int64_t whole = rest >= 0 ? rest / tick_ns : -((-rest + tick_ns - 1) / tick_ns);
  return here + uint64_t(theirs.seconds - ours.seconds) * uint64_t(ticks) + uint64_t(whole);
}

}  // namespace

std::optional<uint64_t> start_of_process(int32_t pid) {
  std::ifstream file(folder_of(pid) + "/stat");
  std::string line;
  std::getline(file, line);
  size_t name_end = line.rfind(')');  // the name may hold blanks and parentheses
  if (name_end == std::string::npos) return std::nullopt;
  std::istringstream fields(line.substr(name_end + 1));
  std::string state, skipped;
  long threads = 0;
  fields >> state;
  for (int field = 4; field < 20; ++field) fields >> skipped;
  fields >> threads >> skipped;
  // A process whose main thread has ended looks like a zombie, but lives on in its other threads.
  if ((state == "Z" || state == "X") && threads <= 1) return std::nullopt;
  uint64_t start = 0;
  if (!(fields >> start)) return std::nullopt;
  return start;
}

bool lives_since(int32_t pid, uint64_t start) {
  auto here = start_of_process(pid);
  if (!here || *here == start) return here.has_value();
  uint64_t there = start_seen_by(pid, *here);
  return there != *here && (start == there || start == there + 1);
}

std::optional<MemoryUse> memory_of_process(int32_t pid) {
  std::ifstream file(folder_of(pid) + "/statm");
  uint64_t page = uint64_t(sysconf(_SC_PAGESIZE)), total = 0, resident = 0;
  if (!(file >> total >> resident) || total == 0) return std::nullopt;   // it has none any more
  return MemoryUse{resident * page, total * page};
}

std::optional<int32_t> pid_in_its_namespace(int32_t pid) {
  std::ifstream file(folder_of(pid) + "/status");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("NSpid:")) return number_of(line.substr(line.find_last_of(" \t:") + 1));
  return std::nullopt;
}

uint64_t own_pid_namespace() { return pid_namespace_at("/proc/self"); }

ProcessTable::Found ProcessTable::find(int32_t pid, uint64_t pid_namespace, uint64_t start) {
  if (pid_namespace == 0 || start == 0) return {std::nullopt, false};  // it had no /proc to learn them from
  if (!was_read_) read();
  Found found{std::nullopt, shows_all_};
  auto [from, to] = numbers_.equal_range(pid);
  for (auto entry = from; entry != to; ++entry) {
    if (!lives_since(entry->second, start)) continue;
    uint64_t its_namespace = pid_namespace_at(folder_of(entry->second));
    if (its_namespace == pid_namespace) return {entry->second, true};
    if (its_namespace == 0) found.saw_all = false;  // another user's: it may be this one
  }
  return found;
}

std::optional<bool> ProcessTable::lives(int32_t pid, uint64_t pid_namespace, uint64_t start) {
  Found found = find(pid, pid_namespace, start);
  return found.number || found.saw_all ? std::optional(found.number.has_value()) : std::nullopt;
}

std::optional<int32_t> ProcessTable::number_here(int32_t pid, uint64_t pid_namespace, uint64_t start) {
  return find(pid, pid_namespace, start).number;
}

void ProcessTable::read() {
  was_read_ = true;
  bool any_hidden = false, saw_first = false;
  std::error_code error;
  for (fs::directory_iterator entry("/proc", error), end; !error && entry != end; entry.increment(error)) {
    auto pid = number_of(entry->path().filename());
    if (!pid) continue;
    saw_first |= *pid == 1;
    if (auto there = pid_in_its_namespace(*pid)) {
      numbers_.emplace(*there, *pid);
    } else {
      std::error_code ignored;
      any_hidden |= fs::exists(entry->path(), ignored);  // did not end just now: hidepid
    }
  }
  // Process 1 is always there, unless hidepid keeps even the names of others from us.
  shows_all_ = !error && !any_hidden && saw_first && own_pid_namespace() == kInitialPidNamespace;
}

}  // namespace tidemark::model
