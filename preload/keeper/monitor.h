// What the keeper does every sample_interval and cleanup_interval: sample, warn, purge; and every second: see to it that free pages go in time. All of it
// from errands.
#pragma once
#include <cstdint>

namespace tidemark::keeper {

// Called at each tick by the keeper while the process is recorded: starts an errand when something is due.
void monitor(int64_t now);
void sample();            // now; from an errand
uint64_t latest_rss();    // of the last sample; 0: none yet
void want_purge();        // at the next tick, for the program itself; any thread
void replan();           // options have changed; from the keeper or its errand
void stop_monitor();     // waits for the errand under way
// The program is about to put itself under a seccomp filter: from now on no file is read, and none opened. For good, also in children.
void confine_monitor();
void unconfine_monitor();   // that one was refused
bool monitor_is_confined();
bool filter_was_seen();   // the same, or one that came unannounced, noticed by a sample. A vfork child's is not among these
void forget_monitor();   // child of fork

}  // namespace tidemark::keeper
