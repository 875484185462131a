// The session: whether and where this process is recorded. States are the words of base::SessionWord:
//
//   unstarted ─ first malloc ─▶ recording (the launched program) | grace (a child, in private memory) | inert
//   grace ─ child_grace over, or its allocations ─▶ frozen ─▶ recording | inert (no region could be made)
//   any ─ fork, in the child ─▶ wiped ─ first malloc, or its keeper ─▶ grace
#pragma once
#include <cstdint>

#include "preload/keeper/options.h"

namespace tidemark::keeper {

extern Options options;
void make_sensible(Options& options);   // sizes and intervals within bounds, paths absolute: the program may change its folder

void start_early();     // decides; fit for the program's first call of malloc
void begin_child();     // the word is kWiped
void note_keeper_begun();   // in this process; also where it failed. No child of it knows of that
void note_forked_by(int32_t pid);   // child of fork: by which process; 0: ask the kernel
// Moves a child's records from private memory into a region file. Any thread of ours, busy and internal. Returns false when the
// move must be tried again later. Threads inside malloc wait for it about a millisecond.
bool move_to_region();
void end_grace_without_keeper();   // this process is about to end: where there is no keeper, and time is up, it gets its region now
void stop_recording(); // for good: inert
// The same for `tidemark stop`: the region says so, and children of fork are not recorded either.
void end_recording();
// A handler's fork child that has no memory to leave its parent's region (base::leave_shared_store): nothing more of it is recorded, which that region counts.
void leave_unrecorded();
// No thread of the program is inside malloc, and none goes in, until thaw_program. Gives up after a tenth of a second. From an errand.
bool freeze_program();
void thaw_program();

// Not a vfork child. Once the program has put a seccomp filter on itself, which may kill who asks for a pid, such a child is taken for its parent.
bool is_own_process();
bool recording();       // there is a region file, and it is this process's own
const char* region_folder();

void lock_session();    // around fork
bool lock_session_within(uint32_t milliseconds);   // false: not to be had
void unlock_session();

}  // namespace tidemark::keeper
