// The part of a text report that says which call stacks mapped memory themselves.
#pragma once
#include <ostream>

#include "analyzer/output/text_frames.h"

namespace tidemark::output {

// Those with a hundredth of RSS or a tenth of its growth and more, `top` at most (0: all that hold anything). Nothing where there are none.
void write_mappings(std::ostream& out, const model::Profile& profile, size_t top, FrameWriter& frames);

}  // namespace tidemark::output
