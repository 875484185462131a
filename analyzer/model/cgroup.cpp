#include "analyzer/model/cgroup.h"

#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <unordered_map>

namespace tidemark::model {

namespace {

namespace fs = std::filesystem;

constexpr const char* kRoots[] = {"/sys/fs/cgroup/memory", "/sys/fs/cgroup"};  // version 1, 2
constexpr size_t kMostFolders = 10'000;

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

using Folders = std::unordered_multimap<uint64_t, std::string>;  // by inode

void add_folders_below(const char* root, Folders& folders) {
  std::error_code error;
  fs::recursive_directory_iterator entries(root, fs::directory_options::skip_permission_denied, error), end;
  for (; !error && entries != end && folders.size() < kMostFolders; entries.increment(error)) {
    struct stat status;
    if (entries->is_directory(error) && stat(entries->path().c_str(), &status) == 0) folders.emplace(status.st_ino, entries->path());
  }
}

// A folder of a hundred regions asks a hundred times.
const Folders& folders_here() {
  static const Folders folders = [] {
    Folders found;
    for (const char* root : kRoots) add_folders_below(root, found);
    return found;
  }();
  return folders;
}

}  // namespace

std::optional<uint64_t> oom_kills_of_cgroup(const std::string& folder, uint64_t inode) {
  if (has_inode(folder, inode)) return oom_kills_in(folder);
  if (inode == 0) return std::nullopt;
  // Inodes are those of one hierarchy: in another one a folder has none of the memory controller's files.
  for (auto [place, end] = folders_here().equal_range(inode); place != end; ++place)
    if (auto kills = oom_kills_in(place->second)) return kills;
  return std::nullopt;
}

}  // namespace tidemark::model
