// Work that opens files or takes long, done in a thread beside the keeper, one piece at a time. It has a descriptor table of its own, so that
// the program never sees our descriptors, nor gets other numbers because of them (Linux 5.9: close_range unshares the table without
// copying it).
#pragma once

namespace tidemark::keeper {

// For the keeper thread alone. `when_idle` is called by the thread each time it has nothing to do any more.
void set_idle_call(void (*when_idle)());
// By a thread of the program: in a process with an allocator of its own, which may know of no threads, none of ours may make one, for glibc allocates then.
void make_errand_thread();

bool start_errand(void (*work)());   // makes the thread the first time. Where it may not be made any more (monitor_is_confined), or cannot (RLIMIT_NPROC),
                                     // `work` is done at once, in this thread; false: it cannot, for the keeper has no table of its own
bool errand_under_way();             // any thread may ask
bool errand_thread_exists();         // any thread may ask
void end_errands();                  // waits for the one under way, and for the end of the thread
void forget_errands();               // child of fork: it is not there
void forget_own_table();             // a new keeper: it begins with the program's

// For the keeper thread alone: it too gets a table of its own, an empty one, unless it is confined. A table that two threads share makes each of the
// program's system calls on a descriptor count its references by atomic operations (fs/file.c, __fget_light).
void leave_program_table();

// Runs `work` in a thread with such a table, and waits for it; in this one, where none can be made.
void run_in_own_table(void (*work)(void*), void* argument);

}  // namespace tidemark::keeper
