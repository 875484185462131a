// The keeper: one thread, all signals blocked, that does whatever is slow: time, heartbeat, the end of a child's grace, ages and
// series. It allocates from jemalloc untracked.
#pragma once

namespace tidemark::keeper {

void start_keeper();         // no-op when it runs
void stop_keeper();          // waits until the thread is gone
// A thread of the program is ending. If it was the last one that is known, the keeper ends first, so that the process goes on to its exit handlers in
// that thread, as it would have without us.
void stop_if_last();
void restart_keeper();       // a thread is known again; no-op unless the last one had stopped the keeper
void forget_keeper();        // child of fork: it is not there

}  // namespace tidemark::keeper
