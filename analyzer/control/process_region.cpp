#include "analyzer/control/process_region.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "analyzer/launch/process.h"
#include "preload/format/region.h"

namespace tidemark::control {

namespace fs = std::filesystem;

namespace {

// A mapped file: the folder it was made in, and its inode. The name may be gone or changed: a region is made without one.
struct MappedFile {
  std::string folder;
  uint64_t inode;
};

// "START-END PERMS OFFSET DEV INODE   PATH": shared, writable, a file.
std::optional<MappedFile> parse_mapping(const std::string& line) {
  std::istringstream fields(line);
  std::string range, permissions, offset, device, path;
  uint64_t inode = 0;
  if (!(fields >> range >> permissions >> offset >> device >> inode) || inode == 0) return std::nullopt;
  if (permissions.size() < 4 || permissions[3] != 's') return std::nullopt;
  std::getline(fields >> std::ws, path);
  size_t slash = path.rfind('/');
  if (slash == std::string::npos) return std::nullopt;
  bool likely = path.find(".tide") != std::string::npos || path.compare(slash, 2, "/#") == 0;
  if (!likely) return std::nullopt;
  return MappedFile{path.substr(0, slash == 0 ? 1 : slash), inode};
}

std::optional<std::string> named_in(const std::string& folder, uint64_t inode) {
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    struct stat status;
    if (entry->path().extension() == ".tide" && stat(entry->path().c_str(), &status) == 0 && status.st_ino == inode) return entry->path();
  }
  return std::nullopt;
}

bool has_memory(const fs::path& folder) {
  std::ifstream maps(folder / "maps");
  std::string line;
  return bool(std::getline(maps, line));
}

// The folder in /proc that shows the process's memory: of any thread, where the main one has ended by pthread_exit while others go on.
std::string folder_of(int32_t pid) {
  std::string process = fmt::format("/proc/{}", pid);
  if (!std::ifstream(process + "/maps")) {
    if (!is_alive(pid)) throw ControlError(fmt::format("there is no process {}", pid));
    throw ControlError(fmt::format("process {} is not yours to look at ({}); run this as its user or as root", pid, strerror(errno)));
  }
  if (has_memory(process)) return process;
  std::error_code error;
  for (fs::directory_iterator thread(process + "/task", error), end; !error && thread != end; thread.increment(error))
    if (has_memory(thread->path())) return thread->path();
  if (!is_alive(pid)) throw ControlError(fmt::format("process {} has ended", pid));
  throw ControlError(fmt::format("process {} is not yours to look at; run this as its user or as root", pid));
}

std::vector<MappedFile> mapped_files(const std::string& folder) {
  std::vector<MappedFile> files;
  std::ifstream maps(folder + "/maps");
  for (std::string line; std::getline(maps, line);)
    if (auto file = parse_mapping(line)) files.push_back(*file);
  return files;
}

}  // namespace

bool is_alive(int32_t pid) { return pid > 0 && !launch::process_is_gone(pid, 0); }

bool StopDetector::stays_stopped(int32_t pid, int64_t now_ns) {
  constexpr int64_t kLongEnough = 1'000'000'000;
  char state = launch::process_state(pid);
  if (state != 'T' && state != 't') {
    since_ns_ = 0;
    return false;
  }
  uint64_t switches = launch::context_switches(pid);
  if (since_ns_ == 0 || switches != switches_) {
    since_ns_ = now_ns;
    switches_ = switches;
  }
  return now_ns - since_ns_ >= kLongEnough;
}

// A child of fork may have its parent's region mapped, too. The time of a process's start is the same seen from anywhere.
static bool belongs_to(const std::string& path, uint64_t start) {
  format::Header header;
  std::ifstream file(path, std::ios::binary);
  return start == 0 || !file.read(reinterpret_cast<char*>(&header), sizeof(header)) || header.pid_start == start;
}

std::string region_of(int32_t pid) {
  uint64_t start = launch::process_start(pid);
  std::string folder = folder_of(pid);
  for (const MappedFile& file : mapped_files(folder))
    for (const std::string& root : {std::string(), folder + "/root"}) {   // another mount namespace
      auto path = named_in(root + file.folder, file.inode);
      if (path && belongs_to(*path, start)) return *path;
    }
  throw ControlError(
      fmt::format("process {} is not recorded by tidemark (or its region was removed); start it with `tidemark run`, or with LD_PRELOAD", pid));
}

}  // namespace tidemark::control
