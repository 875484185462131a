// From made-up bytes to a profile.
#pragma once
#include <memory>
#include <vector>

#include "analyzer/model/profile.h"
#include "analyzer/output/report.h"
#include "analyzer/region/region.h"
#include "tests/unit/support/region_builder.h"

namespace tidemark::test {

// A machine on which the process of RegionBuilder's regions is gone.
inline model::Surroundings elsewhere() {
  model::Surroundings surroundings;
  surroundings.boot_id.fill(0xb0);
  surroundings.pid_namespace = 7;
  surroundings.now_realtime_ns = 1'700'000'000'000'000'000 + 200'000'000'000;  // 100 s after its last sign of life
  surroundings.lives_here = [](int32_t, uint64_t) { return false; };
  return surroundings;
}

inline output::Report report_of(std::vector<std::byte> bytes, const model::Surroundings& surroundings = elsewhere()) {
  output::Report report;
  report.path = "server.4711.tide";
  report.region = std::make_unique<region::Region>(region::Region::parse(std::move(bytes)));
  report.profile = model::build_profile(*report.region, surroundings);
  return report;
}

inline output::Report report_of(const RegionBuilder& builder) { return report_of(builder.used()); }

}  // namespace tidemark::test
