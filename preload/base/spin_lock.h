// A lock for a few dozen instructions: adding a rule, a node, a record. Never held across an unwind, a system call that can
// block, or a call into the program (but where only rare and slow calls meet: heap/allocator.cpp). Not for signal handlers: the busy guard keeps nested hooks away from it.
#pragma once
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>

#include <atomic>
#include <cstdint>

namespace tidemark::base {

class SpinLock {
 public:
  void lock() {
    for (uint32_t n = 0; word_.exchange(1, std::memory_order_acquire); n++) {
      if (n < 100) __builtin_ia32_pause();
      else if (n < 300) sched_yield();
      else rest();
    }
  }
  bool try_lock() { return !word_.exchange(1, std::memory_order_acquire); }
  // For who may have interrupted its holder.
  bool try_lock(uint32_t tries) {
    for (; tries && !try_lock(); tries--) sched_yield();
    return tries;
  }
  void unlock() { word_.store(0, std::memory_order_release); }
  // In a child of fork: whoever held it is not there.
  void reset() { word_.store(0, std::memory_order_relaxed); }

  // Whoever holds it may wait for this very processor, behind a thread of higher real-time priority: to yield does not let it go on. A bare
  // instruction, for errno stays as it is, and no thread is cancelled here.
  static void rest() {
    timespec briefly{0, 50'000};
    long result = SYS_nanosleep;
    __asm__ volatile("syscall" : "+a"(result) : "D"(&briefly), "S"(nullptr) : "rcx", "r11", "memory");
  }

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
