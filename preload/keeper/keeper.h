// The keeper: one thread, all signals blocked, that does whatever is slow: time, heartbeat, the end of a child's grace, ages and
// series. It allocates from jemalloc untracked.
#pragma once

namespace tidemark::keeper {

void start_keeper();         // no-op when it runs
void stop_keeper();          // waits until the thread is gone
// A thread of the program is ending. If it was the last one, the keeper must not be what keeps the process alive: it looks at once.
void wake_if_alone();
void forget_keeper();        // child of fork: it is not there

}  // namespace tidemark::keeper
