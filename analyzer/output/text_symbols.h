// Which modules lack symbols, and what would bring them.
#pragma once
#include <ostream>

#include "analyzer/model/profile.h"
#include "analyzer/symbolize/symbolizer.h"

namespace tidemark::output {

// About the modules that the symbolizer was asked for; writes nothing when all have lines.
void write_symbols(std::ostream& out, const model::Profile& profile, const symbolize::Symbolizer& symbols);

}  // namespace tidemark::output
