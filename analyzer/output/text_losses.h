// What a report cannot tell, in words.
#pragma once
#include <ostream>

#include "analyzer/model/profile.h"

namespace tidemark::output {

// Writes nothing when nothing is missing.
void write_losses(std::ostream& out, const model::Profile& profile);

}  // namespace tidemark::output
