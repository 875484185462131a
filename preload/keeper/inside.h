// What the program asks of itself (tidemark.h). Any of its threads, outside of malloc.
#pragma once

struct tidemark_statistics;

namespace tidemark::keeper {

bool read_statistics(tidemark_statistics& out);   // false: not recorded
bool ask_for_purge();                             // done soon, by an errand; several requests may become one

}  // namespace tidemark::keeper
