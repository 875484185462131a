// The part of the text report that tells of the process over time.
#pragma once
#include <ostream>

#include "analyzer/model/profile.h"

namespace tidemark::output {

void write_memory(std::ostream& out, const model::Profile& profile);
void write_marks(std::ostream& out, const model::Profile& profile);
void write_warnings(std::ostream& out, const model::Profile& profile);

}  // namespace tidemark::output
