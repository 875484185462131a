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
};

// Figures that are not known are left out. `pid`: the process's number here.
void write_stats(std::ostream& out, const State& state, int32_t pid, const model::Machine& machine);

}  // namespace tidemark::output
