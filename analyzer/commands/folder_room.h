// Whether a folder's regions leave room for another one: without a launcher regions_max is for all of them, so a service that crashes again and again is not
// recorded any more when its old ones have taken it, and nobody would be told.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "analyzer/output/report.h"

namespace tidemark::commands {

class FolderRoom {
 public:
  FolderRoom(std::string folder, const std::vector<std::string>& files);

  // Of the newest region seen the options are taken. Those of other folders don't matter.
  void see(const output::Report& report);
  // What to tell; none: there is room, or nothing is known of who would want it.
  std::optional<std::string> note() const;
  const std::string& folder() const { return folder_; }

 private:
  std::string folder_;
  size_t regions_;
  uint64_t bytes_ = 0;
  int64_t newest_ns_ = 0;
  std::string options_;
  bool launched_ = false;  // by `tidemark run`, where it is for the run
};

}  // namespace tidemark::commands
