// What state the process is in, as far as the heap must know; the keeper decides it (preload/keeper/session.h).
#pragma once
#include <cstdint>

namespace tidemark::heap {

// Set by the keeper's layer before anything can be tracked. All run on program threads, not in signal handlers, outside of any
// lock of ours, and may make system calls.
struct SessionCalls {
  void (*start_early)();      // the word is kUnstarted: decide, and set it
  void (*begin_child)();      // the word is kWiped: detach from the parent's region
  void (*thread_ended)();     // the calling thread is about to end
  void (*grace_is_over)();    // a child in its grace has made its last uncounted allocation: give it its region now
};
extern SessionCalls session_calls;
extern uint32_t session_serial;       // of the present session; a thread whose state has another one attaches anew
extern uint32_t grace_allocations;    // left in this child's grace
extern int64_t grace_end_ns;          // CLOCK_MONOTONIC, where there is no keeper to look at the clock; else 0
extern bool without_keeper;           // this process has none, and gets none: each call passes the gate, which looks at the clock

}  // namespace tidemark::heap
