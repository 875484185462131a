// The report for a person.
#pragma once
#include <ostream>

#include "analyzer/output/report.h"

namespace tidemark::output {

void write_text(std::ostream& out, const Report& report, const ReportOptions& options);

}  // namespace tidemark::output
