// What the shim keeps for each thread, and the word that tells a hook whether it may go on as usual.
#pragma once
#include <pthread.h>

#include <csignal>
#include <cstdint>

#include "preload/base/common.h"
#include "preload/format/region.h"

namespace tidemark::heap {
struct Magazines;
struct NotedStripe;
}
namespace tidemark::stacks {
struct Path;
}
namespace tidemark::base {

inline constexpr uint32_t kNoTick = 0xffffffff;   // no session lasts so long
// Owner of a StackRecord: slot number (low 16 bits) and how often the slot was taken. 0: nobody.
inline constexpr uint32_t kNoOwner = 0xffffffff;   // a thread without a slot: matches no record

struct ThreadState {
  address busy;          // inside a hook: its stack pointer, or kBusy inside one of our own calls. A hook that finds it set runs in a
                         // signal handler, inside such a call, or after a handler that jumped out of a hook
  uint32_t generation;   // of the session this state was made for; see session_word
  uint32_t owner;
  uint32_t session;      // serial of the session whose slot this thread has
  format::Thread* slot;
  int* errno_at;         // this thread's errno: asking glibc for it is a call each time
  address stack_low, stack_top;   // the thread's own stack, as far as it is known; from a place in it up to the top all can be read
  address last_word;              // of the stack; 0: it is not known
  address stack_span;             // from stack_low to there
  address quick_span;             // the same; 0: stacks are not looked for the quick way now, see stacks/left_alone.h
  void* deferred;        // blocks freed by signal handlers inside the allocator, linked through their first word
  uint32_t victim;       // where the next colliding cache entry goes
  uint32_t check;        // stacks since the last one that was checked
  uint8_t internal;      // the keeper, or a call of ours: not tracked
  uint8_t exiting;
  uint8_t luck;          // of late, long searches in the leaf cache found something
  uint8_t away;          // places that were not found in their home
  uint16_t leaning, reluctance;   // see stacks/left_alone.h
  uint32_t stripes_tick = kNoTick;   // when `stripes` were noted: only in that tick are they asked
  stacks::Path* path;    // of the stack that was walked last; nullptr: no room
  heap::Magazines* magazines;   // never nullptr once the thread has joined a session
  heap::NotedStripe* stripes;   // see heap/counters.h; nullptr: no room
  uint8_t forking;       // a fork() is under way, which holds the shim's locks
  uint8_t vfork_child;   // see note_vfork_child, keeper/process_events.cpp
  uint8_t stack_lost;    // a part of its own stack can't be read any more
  address stack_floor;   // the same of all below this
  const void* daemon_call;   // keeper::DaemonCall: inside daemon(), which has not forked yet
  uint64_t signals;      // while forking: those that were blocked before

  bool owns(address a) const { return a - stack_low < stack_top - stack_low; }   // it lies on the thread's own stack, as far as that is known
  void set_stack(address low, address top) {
    stack_low = low, stack_top = top;
    last_word = top ? top - sizeof(address) : 0;
    stack_span = quick_span = last_word - (top ? low : 0);
  }
  // These two may be called by other threads, too: after each store the thread knows less than before, and nothing wrong. Off the quick way (left_alone.h), for
  // the thread may be about to go back there by the span it had.
  void lower_stack_to(address low) {
    store(stack_floor, low), store(stack_span, last_word - low), store(quick_span, 0), store(stack_low, low);
  }
  void forget_stack() { store(quick_span, 0), store(stack_span, 0), store(stack_top, 0), store(stack_low, 0), store(last_word, 0); }

 private:
  static void store(address& word, address value) { __atomic_store_n(&word, value, __ATOMIC_RELEASE); }
};
static_assert(sizeof(ThreadState) <= 256);
inline constexpr address kBusy = 1;

extern __thread ThreadState thread_state __attribute__((tls_model("initial-exec"), visibility("hidden")));

// The process's first thread; in a child of fork the one that forked. Asks the kernel nothing: it is asked for in each thread's first allocation.
TIDEMARK_OWN const ThreadState* main_thread;
inline bool is_main_thread() { return &thread_state == main_thread; }

// One word in a page that fork wipes (MADV_WIPEONFORK). A hook goes on at once only if thread_state.generation equals it.
// Else it is one of these, or the serial of a session that this thread does not know yet.
enum SessionWord : uint32_t {
  kWiped = 0,                 // child of fork or of a raw clone: nothing of the parent's may be touched
  kUnstarted = 0xffffffff,
  kFrozen = 0xfffffffe,       // the region is being moved: wait
  kInert = 0xfffffffd,        // nothing is tracked
  kGrace = 0xfffffffc,        // tracked, in private memory; each call passes the gate
  kNoSession = 0xfffffff1,    // never the word: a thread that must go through the gate
  kFirstSpecial = 0xfffffff0,
};
TIDEMARK_OWN uint32_t* session_word;

// Blocks (a futex wait of at most 10 ms at a time) until the word is no longer kFrozen.
void wait_while_frozen();
// Enters the busy state unless the region is being moved, whatever the session.
void enter_busy();

// Calls what holds locks of ours or of jemalloc's, outside of malloc: a signal handler that comes meanwhile finds the thread inside a hook. False, and not called:
// it is inside one already.
template <class Call>
__attribute__((noinline)) bool as_hook(Call call) {
  if (thread_state.busy) return false;
  enter_busy();
  thread_state.busy = reinterpret_cast<address>(__builtin_frame_address(0));   // so that one who jumps out is found out
  call();
  compiler_barrier();
  thread_state.busy = 0;
  return true;
}

// For a thread of ours: whatever it allocates is not the program's.
inline void be_internal() {
  thread_state.busy = kBusy;
  thread_state.internal = 1;
}

// For a call of ours that may allocate: what it allocates is not the program's.
class InternalScope {
 public:
  InternalScope() : busy_(thread_state.busy), internal_(thread_state.internal) { be_internal(); }
  ~InternalScope() {
    thread_state.internal = internal_;
    thread_state.busy = busy_;
  }
  InternalScope(const InternalScope&) = delete;
  InternalScope& operator=(const InternalScope&) = delete;

 private:
  address busy_;
  uint8_t internal_;
};

// For what opens files or waits, in functions that are no cancellation points without us: a thread that is cancelled there would hold our locks for ever.
class NoCancellation {
 public:
  NoCancellation() { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state_); }
  ~NoCancellation() { pthread_setcancelstate(state_, nullptr); }
  NoCancellation(const NoCancellation&) = delete;
  NoCancellation& operator=(const NoCancellation&) = delete;

 private:
  int state_ = PTHREAD_CANCEL_ENABLE;
};

// For what the program's handlers may not interrupt: they may leave by siglongjmp, change the user, or allocate, which would be taken for ours. Not by a
// raw system call: glibc's own signals must stay open, or setuid() waits for this thread for ever.
class NoHandlers {
 public:
  NoHandlers() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before_);
  }
  ~NoHandlers() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  NoHandlers(const NoHandlers&) = delete;
  NoHandlers& operator=(const NoHandlers&) = delete;

 private:
  sigset_t before_;
};

}  // namespace tidemark::base
