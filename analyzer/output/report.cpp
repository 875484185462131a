#include "analyzer/output/report.h"

namespace tidemark::output {

Report Report::open(const std::string& path) {
  Report report;
  report.path = path;
  report.region = std::make_unique<region::Region>(region::Region::open(path));
  report.profile = model::build_profile(*report.region, model::Surroundings::here());
  return report;
}

}  // namespace tidemark::output
