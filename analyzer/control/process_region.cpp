#include "analyzer/control/process_region.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "analyzer/launch/process.h"
#include "analyzer/model/process_table.h"
#include "preload/format/options.h"
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

// What /proc tells of a thread's memory: 0 where it has some, else an error. ESRCH: it has none, which some kernels say themselves.
int error_of_memory(const fs::path& folder) {
  std::ifstream maps(folder / "maps");
  if (!maps) return errno;
  std::string line;
  return std::getline(maps, line) ? 0 : ESRCH;
}

bool is_of_kernel(int32_t pid) {
  constexpr unsigned kThreadOfKernel = 0x00200000;   // PF_KTHREAD
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string line, skipped;
  std::getline(file, line);
  std::istringstream fields(line.substr(std::min(line.rfind(')'), line.size())));
  unsigned flags = 0;
  for (int field = 2; field < 9; ++field) fields >> skipped;
  return fields >> flags && (flags & kThreadOfKernel) != 0;
}

// A process gives its memory back before it becomes a zombie.
std::string why_it_has_no_memory(int32_t pid) {
  if (!is_alive(pid)) return fmt::format("process {} has ended", pid);
  return fmt::format("process {} is {}", pid, is_of_kernel(pid) ? "a thread of the kernel" : "ending: it has no memory any more");
}

// The folder in /proc that shows the process's memory: of any thread, where the main one has ended by pthread_exit while others go on.
std::string folder_of(int32_t pid) {
  std::string process = fmt::format("/proc/{}", pid);
  int error = error_of_memory(process);
  if (error == 0) return process;
  if (error == ENOENT && !is_alive(pid)) throw ControlError(fmt::format("there is no process {}", pid));
  std::error_code over;
  for (fs::directory_iterator thread(process + "/task", over), end; error == ESRCH && !over && thread != end; thread.increment(over))
    if (int its = error_of_memory(thread->path()); its == 0) return thread->path();
    else if (its != ENOENT) error = its;   // ENOENT: that thread ended meanwhile
  if (error == ESRCH) throw ControlError(why_it_has_no_memory(pid));
  throw ControlError(fmt::format("process {} is not yours to look at ({}); run this as its user or as root", pid, strerror(error)));
}

struct Mapped {
  std::vector<MappedFile> files;   // that may be regions
  bool has_shim = false;
};

Mapped mapped_in(const std::string& folder) {
  Mapped mapped;
  std::ifstream maps(folder + "/maps");
  for (std::string line; std::getline(maps, line);) {
    if (auto file = parse_mapping(line)) mapped.files.push_back(*file);
    if (line.find("/libtidemark.so") != std::string::npos) mapped.has_shim = true;
  }
  return mapped;
}

// The value of `dir` among options as the shim takes them: KEY=VALUE:…, a value with a colon in double quotes. Empty: it is not among them.
std::string dir_in(std::string_view options) {
  while (!options.empty()) {
    size_t equals = options.find('=');
    if (equals == std::string_view::npos) return {};
    std::string_view key = options.substr(0, equals), value = options.substr(equals + 1);
    bool quoted = value.starts_with('"');
    if (quoted) value.remove_prefix(1);
    size_t end = std::min(value.find(quoted ? '"' : ':'), value.size());
    if (key == "dir") return std::string(value.substr(0, end));
    options = value.substr(end);
    options.remove_prefix(std::min(options.find_first_not_of("\":"), options.size()));
  }
  return {};
}

// Where it makes its region, by its environment as it was at its start.
std::string region_folder_of(const std::string& process) {
  constexpr std::string_view kName = "TIDEMARK_OPTIONS=";
  std::ifstream environment(process + "/environ");
  std::string dir;
  for (std::string variable; dir.empty() && std::getline(environment, variable, '\0');)
    if (variable.starts_with(kName)) dir = dir_in(std::string_view(variable).substr(kName.size()));
  return dir.empty() ? format::kFolderWithoutDir : dir;
}

// What to tell of a process whose region is not found.
std::string why_there_is_none(int32_t pid, const std::string& process, const Mapped& mapped) {
  if (!mapped.has_shim) return fmt::format("process {} is not recorded by tidemark; start it with `tidemark run`, or with LD_PRELOAD", pid);
  if (!mapped.files.empty()) return fmt::format("the region of process {} was removed from {}: nothing of it can be read any more", pid, mapped.files[0].folder);
  return fmt::format(
      "tidemark is in process {}, but has no region: it could not make one in {} when the process started (is it there, may that user write to it, is there "
      "room on the disk, are there 2 GiB of old regions: regions_max?), or it is a child that has not earned one yet (child_grace), or is left out (follow, regions_max, enable=0)",
      pid, region_folder_of(process));
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

// A child of fork may have its parent's region mapped, too. One that could not read its start in /proc is known by its number.
static bool belongs_to(const std::string& path, int32_t pid) {
  format::Header header;
  std::ifstream file(path, std::ios::binary);
  bool is_known = launch::process_start(pid) != 0 && file.read(reinterpret_cast<char*>(&header), sizeof(header));
  if (!is_known) return true;
  return header.pid_start == 0 ? model::pid_in_its_namespace(pid) == header.pid : model::lives_since(pid, header.pid_start);
}

static std::optional<std::string> region_among(const Mapped& mapped, const std::string& process, int32_t pid) {
  for (const MappedFile& file : mapped.files)
    for (const std::string& root : {std::string(), process + "/root"}) {   // another mount namespace
      auto path = named_in(root + file.folder, file.inode);
      if (path && belongs_to(*path, pid)) return path;
    }
  return std::nullopt;
}

// A process may end while it is looked at, thread by thread: none is found then in what is there no more.
std::string region_of(int32_t pid) {
  constexpr int kMost = 100;   // threads may come and go for ever
  std::string folder = folder_of(pid), before;
  for (int looks = 1;; ++looks) {
    Mapped mapped = mapped_in(folder);
    if (auto path = region_among(mapped, folder, pid)) return *path;
    before = std::exchange(folder, folder_of(pid));
    if (before == folder || looks == kMost) throw ControlError(why_there_is_none(pid, folder, mapped));
  }
}

}  // namespace tidemark::control
