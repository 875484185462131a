// The keeper: one thread, all signals blocked, that does whatever is slow: time, heartbeat, the end of a child's grace, ages and
// series. It allocates from jemalloc untracked.
#pragma once

namespace tidemark::keeper {

void start_keeper();         // no-op when it runs
void stop_keeper();          // waits until the thread is gone
void forget_keeper();        // child of fork: it is not there

}  // namespace tidemark::keeper
