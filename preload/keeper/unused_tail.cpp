#include "preload/keeper/unused_tail.h"

#include <errno.h>
#include <sys/mman.h>

#include "preload/base/store.h"
#include "preload/keeper/monitor.h"
#include "preload/keeper/process_events.h"
#include "preload/keeper/run.h"

namespace tidemark::keeper {
namespace {

// By the mapping: there is no descriptor. Before Linux 6.6 it must be writable, which is no danger: nobody writes there. Not where the program locks its
// memory, nor on file systems without holes.
bool make_hole(char* start, uint64_t bytes) {
  if (madvise(start, bytes, MADV_REMOVE) == 0) return true;
  return errno == EACCES && mprotect(start, bytes, PROT_READ | PROT_WRITE) == 0 && madvise(start, bytes, MADV_REMOVE) == 0;
}
}  // namespace

// Other threads may go on until the process is gone, and on a full disk to write to a hole is a SIGBUS: first the store is closed. Behind a
// filter that may kill who calls madvise so, nothing is done; and there a vfork child is not told from its parent. (One that nobody saw come and that kills for
// madvise kills who calls malloc, too: README, Limits.)
void give_back_unused_tail() {
  if (filter_was_seen()) return;
  uint64_t kept = base::close_store() * format::kPageBytes;
  if (!kept || kept >= base::store.bytes) return;
  uint64_t rest = base::store.bytes - kept;
  note_giving_back(rest);
  note_given_back(rest, make_hole(base::store.start + kept, rest));
}

}  // namespace tidemark::keeper
