// Which run this process belongs to, and in what role. TIDEMARK_RUN = "v1,RUN_ID (16 hex digits),ROOT_PID,LEDGER_PATH" is set by
// `tidemark run`, or else by the run's first process for those it starts.
#pragma once
#include <cstddef>
#include <cstdint>

#include "preload/format/ledger.h"
#include "preload/format/region.h"

namespace tidemark::keeper {

struct Run {
  uint64_t id;
  int32_t root_pid;        // 0: another process, not known which
  char ledger_path[512];   // "": none yet
  bool joined;             // as an ancestor's child, though the variable was not handed down
};
extern Run run;

// Reads the variable's value (may be null). Without one the run is the nearest ancestor's that has a region in `dir`, where one has; else a new run begins
// with this process.
void read_run(const char* value, const char* dir);
inline bool is_root(int32_t pid) { return run.root_pid == pid; }

// The run's ledger, mapped: the launcher's memfd, or the one in the first region's header. nullptr: none can be reached. Mapped
// anew in a fork child only if needed: the mapping is shared.
format::RunLedger* open_ledger();
// The one in this process's own region, by a mapping of its own: children use it when they have given up their ancestors' regions. Where that cannot be had,
// by ledger_path.
void use_own_ledger();
void forget_ancestor();   // child: whose header was kept may have been an ancestor whose region is given up

// Books `bytes` for one more region; false: regions_max would be passed. That is for the run where it has a launcher, else for all regions of the folder, as its
// first process counts them: a service that is started again and again begins a run each time. A process that cannot open the run's ledger counts the run's files.
bool book_region(uint64_t bytes);
void unbook_region(uint64_t bytes);
// The region for which that was has its name. Every book_region that was not refused is followed by this or by unbook_region.
void note_region_made();
// So much of this process's region is about to go back to the disk, and it is there, or it could not be.
void note_giving_back(uint64_t bytes);
void note_given_back(uint64_t bytes, bool done);
uint64_t bytes_before_run();   // first process of a run without launcher: what was in the folder when it booked its region
// By a thread of ours that is about to take a name of its own: the program's, for note_refusal.
void keep_name();
void note_refusal(format::Refusal reason, int error, const char* detail);

// Tells the nearest recorded ancestor: adds 1 to one of its coverage counters. `dir`: the region folder. Not inside malloc.
void note_in_parent(format::Coverage what, const char* dir);
// The header of the one that would be told; nullptr: none is to be found. Allocates nothing: fit for a vfork child.
format::Header* recorded_ancestor(const char* dir);

// Finds that ancestor now and keeps its header at hand: after a change of user its region may not be opened any more. Not inside malloc.
void keep_parent_header(const char* dir);
void keep_what_tells(const char* dir);   // and the ledger: before the process becomes a user who may not open them

// Puts TIDEMARK_RUN with the present ledger into the environment that exec will hand down.
void export_run();

}  // namespace tidemark::keeper
