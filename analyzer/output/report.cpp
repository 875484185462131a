#include "analyzer/output/report.h"

namespace tidemark::output {

Report Report::open(const std::string& path, model::Surroundings& surroundings, size_t ordered) {
  Report report;
  report.path = path;
  report.region = std::make_unique<region::Region>(region::Region::open(path));
  surroundings.look_at_clock();
  report.profile = model::build_profile(*report.region, surroundings, ordered);
  return report;
}

}  // namespace tidemark::output
