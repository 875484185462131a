#include "analyzer/model/cgroup.h"

#include <sys/stat.h>

#include <filesystem>
#include <fstream>

namespace tidemark::model {

namespace {

namespace fs = std::filesystem;

constexpr const char* kRoots[] = {"/sys/fs/cgroup/memory", "/sys/fs/cgroup"};  // version 1, 2
constexpr int kMostFolders = 50'000;

std::optional<uint64_t> oom_kills_in(const std::string& folder) {
  for (const char* name : {"/memory.events", "/memory.oom_control"}) {  // version 2, 1
    std::ifstream file(folder + name);
    std::string key;
    for (uint64_t value; file >> key >> value;)
      if (key == "oom_kill") return value;
  }
  return std::nullopt;
}

bool has_inode(const std::string& folder, uint64_t inode) {
  struct stat status;
  return inode != 0 && stat(folder.c_str(), &status) == 0 && status.st_ino == inode;
}

// Numbers are those of one hierarchy: in another one the folder has none of the memory controller's files.
std::optional<uint64_t> oom_kills_below(const char* root, uint64_t inode) {
  std::error_code error;
  fs::recursive_directory_iterator folders(root, fs::directory_options::skip_permission_denied, error), end;
  for (int seen = 0; !error && folders != end && seen < kMostFolders; folders.increment(error)) {
    if (!folders->is_directory(error) || ++seen == 0) continue;
    if (has_inode(folders->path(), inode))
      if (auto kills = oom_kills_in(folders->path())) return kills;
  }
  return std::nullopt;
}

}  // namespace

std::optional<uint64_t> oom_kills_of_cgroup(const std::string& folder, uint64_t inode) {
  if (has_inode(folder, inode)) return oom_kills_in(folder);
  for (const char* root : kRoots)
    if (auto kills = inode != 0 ? oom_kills_below(root, inode) : std::nullopt) return kills;
  return std::nullopt;
}

}  // namespace tidemark::model
