// All regions of one run in the folder where its processes make them. Keeps names and identities, no open files.
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "analyzer/launch/descriptor.h"
#include "analyzer/launch/ledger_file.h"
#include "analyzer/launch/region_file.h"

namespace tidemark::launch {

class RegionFolder {
 public:
  // `path` must be a folder already. Keeps `ledger`, which must outlive this.
  RegionFolder(const std::string& path, LedgerFile& ledger);

  // Looks for new regions and gives back the unused tail of those whose process is gone. Does nothing when the ledger counts
  // no region beyond those already settled.
  void sweep();

  // Looks for new regions whatever the ledger says: for the end.
  void find_new();
  void trim_ended();

  // The region of the launched program's last image. `start` as process_start told, 0 when it didn't.
  std::optional<RegionFile> region_of(pid_t pid, uint64_t start) const;

  // Regions of the run seen so far.
  size_t count() const { return regions_.size(); }

 private:
  struct Region {
    std::string name;
    pid_t pid;
    uint64_t pid_start, pid_namespace;
    int64_t started_monotonic_ns;  // of a fork child: its parent's, which is before that of whatever it executes
    bool trimmed;
  };

  void look_at(const std::string& name);
  bool writer_is_gone(const Region& region) const;
  std::optional<RegionFile> open(const Region& region) const;

  Descriptor folder_;
  LedgerFile& ledger_;
  uint64_t pid_namespace_;
  std::unordered_set<std::string> settled_;  // names not to look at again: ours in regions_, or foreign
  std::vector<Region> regions_;
  size_t untrimmed_ = 0;
};

}  // namespace tidemark::launch
