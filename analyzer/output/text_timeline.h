// The part of the text report that tells of the process over time.
#pragma once
#include <ostream>
#include <string>

#include "analyzer/model/profile.h"

namespace tidemark::output {

// What came back, what did not: for one line.
std::string purge_sentence(const model::PurgeEntry& purge);

void write_memory(std::ostream& out, const model::Profile& profile);
void write_marks(std::ostream& out, const model::Profile& profile);
void write_warnings(std::ostream& out, const model::Profile& profile);

}  // namespace tidemark::output
