// The report as one JSON object. Its keys are stable; others may join.
#pragma once
#include <ostream>

#include "analyzer/output/report.h"

namespace tidemark::output {

void write_json(std::ostream& out, const Report& report, const ReportOptions& options);

}  // namespace tidemark::output
