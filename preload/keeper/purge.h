// A purge of the allocator's free pages, and its record in the region.
#pragma once
#include "preload/format/timeline.h"

namespace tidemark::keeper {

// Opens files, and takes as long as the kernel needs to unmap: from an errand. Returns what was recorded.
format::Purge purge(format::PurgeReason reason);
void forget_purges();   // child of fork: the pages were the parent's

}  // namespace tidemark::keeper
