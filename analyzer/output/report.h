// What the writers of this folder need: one region, what was made of it, and how much of it to show.
#pragma once
#include <memory>
#include <string>

#include "analyzer/model/profile.h"
#include "analyzer/region/region.h"
#include "analyzer/symbolize/module_cache.h"

namespace tidemark::output {

struct Report {
  std::string path;
  std::unique_ptr<region::Region> region;
  std::unique_ptr<model::Profile> profile;

  // Throws region::ReadError. Of many regions, all are given the same surroundings; only the clock is looked at again.
  // ordered: as of model::build_profile.
  static Report open(const std::string& path, model::Surroundings& surroundings, size_t ordered = model::kAllSites);
};

struct ReportOptions {
  size_t top = 0;        // sites; 0: all, also those with nothing live
  bool full = false;     // text: all frames, names in full
  bool details = false;  // JSON: lifetime histograms, cohorts, series
  std::shared_ptr<symbolize::ModuleCache> modules = std::make_shared<symbolize::ModuleCache>();  // one for all reports
};

}  // namespace tidemark::output
