#include "analyzer/launch/region_folder.h"

#include <dirent.h>
#include <fcntl.h>

#include <algorithm>

#include "analyzer/launch/process.h"

namespace tidemark::launch {
namespace {

constexpr std::string_view kSuffix = ".tide";

bool has_suffix(std::string_view name) {
  return name.size() > kSuffix.size() && name.substr(name.size() - kSuffix.size()) == kSuffix;
}

}  // namespace

RegionFolder::RegionFolder(const std::string& path, LedgerFile& ledger)
    : folder_(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)), ledger_(ledger), pid_namespace_(own_pid_namespace()) {}

void RegionFolder::sweep() {
  if (ledger_.regions() > regions_.size()) find_new();
  if (untrimmed_ > 0) trim_ended();
}

void RegionFolder::find_new() {
  if (!folder_) return;
  int fd = openat(folder_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);  // a position of its own
  DIR* stream = fd >= 0 ? fdopendir(fd) : nullptr;
  if (!stream) {
    if (fd >= 0) close(fd);
    return;
  }
  while (dirent* entry = readdir(stream))
    if (has_suffix(entry->d_name) && !settled_.count(entry->d_name)) look_at(entry->d_name);
  closedir(stream);
}

void RegionFolder::look_at(const std::string& name) {
  std::optional<RegionFile> file;
  RegionFile::Verdict verdict = RegionFile::open(folder_.get(), name, ledger_.run_id(), file);
  if (verdict == RegionFile::Verdict::kUnfinished) return;
  settled_.insert(name);
  if (verdict == RegionFile::Verdict::kForeign) return;
  const format::Header& header = file->header();
  regions_.push_back({name, header.pid, header.pid_start, header.pid_namespace, header.started_monotonic_ns, false});
  ++untrimmed_;
}

// Gone is also an image whose process goes on with a later one, after execve. Which is later the wall clock cannot tell: it may be set back.
bool RegionFolder::writer_is_gone(const Region& region) const {
  bool replaced = std::any_of(regions_.begin(), regions_.end(), [&](const Region& other) {
    return other.pid == region.pid && other.pid_start == region.pid_start && other.pid_namespace == region.pid_namespace &&
           other.started_monotonic_ns > region.started_monotonic_ns;
  });
  if (replaced && region.pid_start != 0) return true;
  return pid_namespace_ != 0 && region.pid_namespace == pid_namespace_ && process_is_gone(region.pid, region.pid_start);
}

void RegionFolder::trim_ended() {
  for (Region& region : regions_) {
    if (region.trimmed || !writer_is_gone(region)) continue;
    if (auto file = open(region)) ledger_.give_back(file->give_back_tail());
    region.trimmed = true;
    --untrimmed_;
  }
}

std::optional<RegionFile> RegionFolder::open(const Region& region) const {
  std::optional<RegionFile> file;
  RegionFile::open(folder_.get(), region.name, ledger_.run_id(), file);
  // The name may have been given to another file meanwhile.
  if (file && (file->header().pid != region.pid || file->header().pid_start != region.pid_start)) file.reset();
  return file;
}

std::optional<RegionFile> RegionFolder::region_of(pid_t pid, uint64_t start) const {
  std::optional<RegionFile> best;
  for (const Region& region : regions_) {
    if (region.pid != pid || (start != 0 && region.pid_start != 0 && region.pid_start != start)) continue;
    auto file = open(region);
    if (!file) continue;
    auto rank = [](const RegionFile& candidate) {  // an image without a word is the last; else the newest
      const format::Header& header = candidate.header();
      return std::pair(format::Ending(header.ending) == format::Ending::kNone, header.started_monotonic_ns);
    };
    if (!best || rank(*file) > rank(*best)) best = std::move(file);
  }
  return best;
}

}  // namespace tidemark::launch
