// Who the process is, as the region's header tells it. May read /proc; not inside malloc but at the very start.
#pragma once
#include <cstdint>

namespace tidemark::keeper {

void read_identity();   // before the region's file is made: the program may have no descriptor left to read by, then
void fill_identity();   // after that: name, executable, command line, owner, … of the present store
// The run has no ledger yet: this region's header holds it from now on.
void host_ledger(const char* path, uint64_t bytes);

}  // namespace tidemark::keeper
