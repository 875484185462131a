// Thread slots: who owns a stack's plain counters, and how much each thread holds back from the process total.
#pragma once
#include <atomic>

#include "preload/base/store.h"
#include "preload/base/thread_state.h"

namespace tidemark::heap {

inline constexpr uint32_t kMaxThreads = 1 << 16;
// With more than one thread, each adds to the total only once its share has passed this.
inline constexpr int64_t kHoldBack = 32 << 10;

// Where a thread counts what a stack does that it shares with others; see noted_stripe, counters.h.
struct NotedStripe {
  uint32_t stack, counters;   // lines; the latter | kOnlyFrees: where it has not allocated in this tick
};
inline constexpr uint32_t kNotedStripes = 16, kOnlyFrees = 1u << 31;

struct Slot {
  base::ThreadState* state;   // of the thread that has it, or nullptr
  uint32_t line;              // its Thread record
  uint32_t next_free;         // slot number
  uint16_t generation;        // raised whenever it is given back
  uintptr_t stack_low, stack_top;   // of that thread, when it came
};
TIDEMARK_OWN Slot* slots;        // [kMaxThreads]
TIDEMARK_OWN bool many_threads;   // more than one slot was ever taken in this session

// Of an owner's number: the slot it has, which no other one has while it lives.
inline uint32_t slot_number(uint32_t owner) { return owner & 0xffff; }
inline bool owner_alive(uint32_t owner) {
  return __atomic_load_n(&slots[slot_number(owner)].generation, __ATOMIC_ACQUIRE) == owner >> 16;
}

// To at least `value`, whoever else does so.
template <class T>
void raise(T& word, T value) {
  T old = __atomic_load_n(&word, __ATOMIC_RELAXED);
  while (value > old && !__atomic_compare_exchange_n(&word, &old, value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
}

// Once, before jemalloc is first used (see make_exit_key); false: no memory.
bool make_slots();

// Gives the calling thread a slot in the present session. Without room it goes on without one (counted).
void attach_thread();
// The calling thread ends, or leaves the session: its share goes into the total, its stacks may have another owner.
void detach_thread();
// Of these addresses nobody can read any more. What was read of modules there is asked for anew. A thread whose own stack they are in has one that begins
// further up from then on, where they lie below what is in use; else, one of which nobody knows what can be read. Any thread's, as far as it can be told
// without waiting. Fit for signal handlers.
void lose_pages(uintptr_t start, size_t bytes);
// The same of modules alone, once they are gone: meanwhile somebody may have read there. Fit for signal handlers.
void forget_pages(uintptr_t start, size_t bytes);

// A thread that ended by a bare system call, or was killed alone, told nobody: its stack may be gone, and its thread-local storage with it.
TIDEMARK_OWN std::atomic<bool> threads_vanished;   // one was noticed
void look_for_vanished_threads();

// Blocks that signal handlers of all threads freed while these were inside the allocator, linked through their first word; they are the caller's now.
void* take_deferred_of_all();

// Adds the thread's share to the process total and raises the peak.
void flush_share();

// Where that takes no call; false: not done. The thread has a slot.
TIDEMARK_INLINE bool hold_back(base::ThreadState& t, int64_t bytes) {
  int64_t share = t.slot->live_bytes + bytes;
  if (TIDEMARK_UNLIKELY(uint64_t(share) + kHoldBack > 2 * kHoldBack)) return false;
  t.slot->live_bytes = share;
  return true;
}
// The same as long as there is one thread. Each of these is one instruction: a second one may begin to count while this one stands still in between.
TIDEMARK_INLINE void add_live_alone(format::Header& h, int64_t bytes) {
  asm volatile("addq %1, %0" : "+m"(h.live_bytes) : "er"(bytes) : "cc");
  int64_t live = h.live_bytes;
  auto peak = int64_t(h.peak_live_bytes);
  while (TIDEMARK_UNLIKELY(live > peak)) asm volatile("cmpxchgq %2, %0" : "+m"(h.peak_live_bytes), "+a"(peak) : "r"(live) : "cc");
}
TIDEMARK_INLINE void take_live_alone(format::Header& h, int64_t bytes) { asm volatile("subq %1, %0" : "+m"(h.live_bytes) : "er"(bytes) : "cc"); }

// h: the header, which the caller has at hand.
TIDEMARK_INLINE void add_live(format::Header& h, int64_t bytes) {
  base::ThreadState& t = base::thread_state;
  if (TIDEMARK_LIKELY(!many_threads)) return add_live_alone(h, bytes);
  if (TIDEMARK_UNLIKELY(!t.slot)) {
    __atomic_fetch_add(&h.live_bytes, bytes, __ATOMIC_RELAXED);
    return;
  }
  t.slot->live_bytes += bytes;
  if (TIDEMARK_UNLIKELY(t.slot->live_bytes > kHoldBack || t.slot->live_bytes < -kHoldBack)) flush_share();
}

// Whether no other thread is inside a hook at this moment, as far as they are known: all with a slot, and the latest without; then lock_threads is in effect: none
// gets a slot meanwhile.
bool lock_idle_threads();
// Of the threads that have a slot; under a lock: none comes or goes meanwhile.
void for_each_thread(void (*act)(base::ThreadState&));
// Live bytes over all threads, with what they hold back. For the keeper.
int64_t total_live();

struct StackBounds {
  uintptr_t low, top;
};
inline constexpr uint32_t kMostStacks = 4096;
// Of the threads other than the main one whose stacks are known; `out` has room for kMostStacks.
uint32_t copy_stack_bounds(StackBounds* out);

void forget_threads();        // child of fork: all slots are gone
void reset_thread_locks();
void lock_threads();
void unlock_threads();

}  // namespace tidemark::heap
