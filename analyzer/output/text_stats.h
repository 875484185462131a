// What `tidemark stats` prints for a person.
#pragma once
#include <cstdint>
#include <ostream>

#include "analyzer/model/machine.h"
#include "analyzer/model/profile.h"

namespace tidemark::output {

// Of a profile, what needs no region any more.
struct State {
  model::Timeline timeline;
  model::Totals totals;
  model::Process process;
  bool rss_is_from_here = false;  // the process cannot tell it
};

// Figures that are not known are left out, RSS is said not to be. `pid`: the process's number here.
void write_stats(std::ostream& out, const State& state, int32_t pid, const model::Machine& machine);

}  // namespace tidemark::output
