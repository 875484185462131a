// Where a walk puts its frames.
#pragma once
#include <sched.h>
#include <sys/rseq.h>

#include <atomic>
#include <cstddef>

#include "preload/base/thread_state.h"
#include "preload/stacks/path.h"

namespace tidemark::stacks {

// A walk needs 48 KiB at most: too much for small stacks, and for each of many threads. So all but the main one borrow one of some static buffers, near to the
// processor they run on, where there is a free one; who has none of its own waits for it. Who finds its own one taken was jumped out of by a signal handler.
struct alignas(64) WalkFrames {
  std::atomic<const base::ThreadState*> taken;
  alignas(64) Frame frames[kMostWalkedFrames];
};
inline constexpr uint32_t kBuffers = 64, kNear = 4;
TIDEMARK_OWN WalkFrames walk_buffers[kBuffers];

// The processor, as the kernel tells each thread of glibc (rseq(2); glibc 2.35). Where that is switched off, some number.
inline uint32_t present_processor() {
  const auto* area = static_cast<const char*>(__builtin_thread_pointer()) + __rseq_offset;
  return __atomic_load_n(reinterpret_cast<const uint32_t*>(area + offsetof(struct rseq, cpu_id)), __ATOMIC_RELAXED);
}

inline bool take(WalkFrames& b) {
  const base::ThreadState *self = &base::thread_state, *owner = b.taken.load(std::memory_order_relaxed);
  return owner == self || (!owner && b.taken.compare_exchange_strong(owner, self, std::memory_order_acquire));
}

class WalkBuffer {
 public:
  WalkBuffer() : borrowed_(base::is_main_thread() && base::thread_state.path ? nullptr : borrow()) {}
  ~WalkBuffer() {
    if (borrowed_) borrowed_->taken.store(nullptr, std::memory_order_release);
  }
  WalkBuffer(const WalkBuffer&) = delete;
  WalkBuffer& operator=(const WalkBuffer&) = delete;
  Frame* frames() { return borrowed_ ? borrowed_->frames : base::thread_state.path->walked; }

 private:
  static WalkFrames* borrow() {
    uint32_t first = present_processor() * kNear;
    for (uint32_t i = 0; i < kNear; i++)
      if (WalkFrames& b = walk_buffers[(first + i) % kBuffers]; take(b)) return &b;
    if (base::thread_state.path) return nullptr;
    for (uint32_t i = 0;; i++) {
      if (WalkFrames& b = walk_buffers[i % kBuffers]; take(b)) return &b;
      if (i % kBuffers == kBuffers - 1) sched_yield();
    }
  }
  WalkFrames* borrowed_;
};

}  // namespace tidemark::stacks
