#include "analyzer/commands/folder_room.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>

#include "analyzer/launch/options.h"
#include "analyzer/output/human.h"
#include "preload/format/region.h"

namespace tidemark::commands {
namespace {

uint64_t bytes_on_disk(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 ? uint64_t(info.st_blocks) * 512 : 0;
}

}  // namespace

FolderRoom::FolderRoom(std::string folder, const std::vector<std::string>& files) : folder_(std::move(folder)), regions_(files.size()) {
  for (const std::string& file : files) bytes_ += bytes_on_disk(file);
}

void FolderRoom::see(const output::Report& report) {
  const model::Process& process = report.profile->process;
  if (std::filesystem::path(report.path).parent_path() != std::filesystem::path(folder_ + "/").parent_path() || process.started_ns <= newest_ns_) return;
  newest_ns_ = process.started_ns;
  options_ = process.options;
  launched_ = report.region->text(report.region->header().ledger_path).starts_with("/proc/");
}

std::optional<std::string> FolderRoom::note() const {
  launch::OptionSet options;
  if (newest_ns_ == 0 || launched_ || !options.parse(options_).empty()) return std::nullopt;
  auto limit = launch::parse_size(options.get("regions_max")), size = launch::parse_size(options.get("region_size"));
  if (!limit || !size || bytes_ + *size <= *limit) return std::nullopt;
  return fmt::format(
      "the {} region{} in this folder take{} {}, and another of {} would pass regions_max ({}): what is started here without `tidemark run` is not recorded "
      "any more; move or delete old ones, or raise regions_max in TIDEMARK_OPTIONS",
      regions_, regions_ == 1 ? "" : "s", regions_ == 1 ? "s" : "", output::human_bytes(bytes_), output::human_bytes(*size), output::human_bytes(*limit));
}

}  // namespace tidemark::commands
