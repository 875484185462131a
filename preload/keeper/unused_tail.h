// What a region never used goes back to the disk when its process ends by itself. (A launcher cuts the file, but later, and may be gone.)
#pragma once

namespace tidemark::keeper {

// The process is about to exit: from now on its region takes no more pages. Only of a process that records, and by itself (no vfork child). errno is lost.
void give_back_unused_tail();

}  // namespace tidemark::keeper
