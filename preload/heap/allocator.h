// jemalloc asked and told from outside of the hot path: its statistics, a purge, its settings.
#pragma once
#include "preload/format/timeline.h"

namespace tidemark::heap {

// From now on jemalloc's statistics are of this moment; false: they stay those of before, for a thread has vanished (see threads.h), in whose
// thread-local storage jemalloc would read.
bool refresh_statistics();

// Fills all but `rss`. Takes jemalloc's locks for tens of microseconds; a thread of ours only.
void read_allocator(format::HeapFigures& out);

// All of these leave alone an arena whose pages the program's own functions get and give back (jemalloc(3), arena.<i>.extent_hooks).

// Gives the kernel all free pages of all arenas, once read_allocator has been called. Takes as long as the kernel needs to unmap them; what allocates meanwhile does not wait
// for it: jemalloc takes the pages off its lists first (pac.c, pac_decay_to_limit), and threads only try its decay lock (arena.c,
// arena_decay_impl). fork does wait, for one arena's. Any thread, but no signal handler.
void purge_allocator();

// Gives the kernel the pages that have been free for longer than jemalloc's decay times, also in arenas where no thread is or allocates, once read_allocator
// has been called. From then on threads that end leave that to it, unless an arena is left alone: to be called every second, until stop_decay. A
// thread of ours only.
void decay_allocator();
void stop_decay();   // any thread

// Of all arenas, present and future.
void set_decay(uint64_t dirty_ms, uint64_t muzzy_ms);

// Makes the call while none of the above is at work on an arena: for who destroys one, drops its blocks or sets its extent hooks. Waits for one arena's
// purge, as long as the kernel needs for its pages. Any thread, inside a hook; signals wait meanwhile.
int without_purge(int (*call)(void*), void* argument);
// The same around fork, with signals blocked.
void lock_arenas();
void unlock_arenas();
void reset_arenas_lock();   // child of fork or of a bare clone

// jemalloc's own threads, on or off; false: they could not be started.
bool set_background_thread(bool on);
// Before jemalloc is first used. `arenas`: how many; 0: its own choice. `tight`: address space is limited, and what is freed goes back as addresses, too:
// jemalloc would keep them for later, and map ever larger pieces at a time (jemalloc(3), opt.retain).
void choose_heap(uint64_t arenas, bool tight);

}  // namespace tidemark::heap
