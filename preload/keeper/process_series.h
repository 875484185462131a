// The series of the whole process in the region (format/timeline.h): a fixed number of points whose width doubles as they fill.
#pragma once
#include "preload/format/timeline.h"

namespace tidemark::keeper {

// At Header::tick. One thread at a time.
void add_sample(const uint64_t (&gauges)[format::kGauges], const uint64_t (&counters)[format::kCounters]);
void forget_series();   // child of fork: the pages were the parent's

}  // namespace tidemark::keeper
