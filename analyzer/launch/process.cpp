#include "analyzer/launch/process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <optional>
#include <string>
#include <utility>

#include "analyzer/launch/descriptor.h"

namespace tidemark::launch {
namespace {

struct Stat {
  char state;
  long threads;
  uint64_t start;
};

// A container may see the /proc of another pid namespace, where our numbers are other processes'.
bool proc_is_ours() {
  static const bool ours = pid_in_proc() == std::to_string(getpid());
  return ours;
}

std::optional<Stat> read_stat(pid_t pid) {
  if (!proc_is_ours()) return std::nullopt;
  std::string path = "/proc/" + std::to_string(pid) + "/stat";
  Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  char text[1024];
  ssize_t got = file ? read(file.get(), text, sizeof text - 1) : -1;
  if (got <= 0) return std::nullopt;
  text[got] = '\0';
  const char* rest = strrchr(text, ')');  // the name before it may hold anything
  Stat stat{};
  unsigned long long start = 0;
  if (!rest || sscanf(rest, ") %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %ld %*s %llu", &stat.state,
                      &stat.threads, &start) != 3) {
    return std::nullopt;
  }
  stat.start = start;
  return stat;
}

// Of /proc/PID/ns/NAME.
std::optional<std::pair<dev_t, ino_t>> namespace_of(const std::string& process, const char* name) {
  struct stat info;
  if (stat(("/proc/" + process + "/ns/" + name).c_str(), &info) != 0) return std::nullopt;
  return std::pair(info.st_dev, info.st_ino);
}

// Start times read there and here are the same. False, too, where that cannot be told.
bool shares_time_namespace(pid_t pid) {
  auto own = namespace_of("self", "time");
  if (!own) return errno == ENOENT;  // a kernel that has none
  return namespace_of(std::to_string(pid), "time") == own;
}

}  // namespace

uint64_t process_start(pid_t pid) {
  auto stat = read_stat(pid);
  return stat ? stat->start : 0;
}

char process_state(pid_t pid) {
  auto stat = read_stat(pid);
  return stat ? stat->state : 0;
}

uint64_t context_switches(pid_t pid) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  uint64_t sum = 0;
  for (std::string line; std::getline(status, line);) {
    unsigned long long count = 0;
    if (sscanf(line.c_str(), "voluntary_ctxt_switches: %llu", &count) == 1 || sscanf(line.c_str(), "nonvoluntary_ctxt_switches: %llu", &count) == 1)
      sum += count;
  }
  return sum;
}

bool process_is_gone(pid_t pid, uint64_t start) {
  if (pid <= 0) return false;
  if (kill(pid, 0) != 0 && errno == ESRCH) return true;
  auto stat = read_stat(pid);
  if (!stat) return false;  // ended just now, or /proc hides it
  // The process read its own start, to which its time namespace adds.
  if (start != 0 && stat->start != start && shares_time_namespace(pid)) return true;
  // A zombie whose other threads go on still counts them.
  return (stat->state == 'Z' || stat->state == 'X') && stat->threads <= 1;
}

std::string pid_in_proc() {
  char text[32];
  ssize_t length = readlink("/proc/self", text, sizeof text);
  return {text, length > 0 ? size_t(length) : 0};
}

uint64_t own_pid_namespace() {
  struct stat info;
  return stat("/proc/self/ns/pid", &info) == 0 ? info.st_ino : 0;
}

}  // namespace tidemark::launch
