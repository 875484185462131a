// A lock for a few dozen instructions: adding a rule, a node, a record. Never held across an unwind, a system call that can
// block, or a call into the program. Not for signal handlers: the busy guard keeps nested hooks away from it.
#pragma once
#include <sched.h>

#include <atomic>
#include <cstdint>

namespace tidemark::base {

class SpinLock {
 public:
  void lock() {
    for (uint32_t n = 0; word_.exchange(1, std::memory_order_acquire); n++) {
      if (n > 100) sched_yield();
      else __builtin_ia32_pause();
    }
  }
  bool try_lock() { return !word_.exchange(1, std::memory_order_acquire); }
  void unlock() { word_.store(0, std::memory_order_release); }
  // In a child of fork: whoever held it is not there.
  void reset() { word_.store(0, std::memory_order_relaxed); }

 private:
  std::atomic<uint32_t> word_{0};
};

class SpinGuard {
 public:
  explicit SpinGuard(SpinLock& lock) : lock_(lock) { lock_.lock(); }
  ~SpinGuard() { lock_.unlock(); }
  SpinGuard(const SpinGuard&) = delete;
  SpinGuard& operator=(const SpinGuard&) = delete;

 private:
  SpinLock& lock_;
};

}  // namespace tidemark::base
