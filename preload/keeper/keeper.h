// The keeper: one thread, all signals blocked, that does whatever is slow: time, heartbeat, the end of a child's grace, ages and
// series. It allocates from jemalloc untracked.
#pragma once

namespace tidemark::keeper {

void start_keeper();         // no-op when it runs
void stop_keeper();          // waits until the thread is gone
// A thread of the program is ending. If it was the last one that is known, the keeper ends first, so that the process goes on to its exit handlers in
// that thread, as it would have without us. Where others live that are not known, for they never allocated, a new one begins: it shares the program's
// descriptors until one of them does, and runs the exit handlers if none does. Not inside of a hook.
void stop_if_last();
void forget_keeper();        // child of fork: it is not there

}  // namespace tidemark::keeper
