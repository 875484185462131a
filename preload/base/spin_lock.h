// A lock for what is short: adding a rule, a node, a record. Its holder may ask the kernel for something that it answers at once (memory, whether a word can be read,
// a thread's number), and a module or a thread that comes or goes is noted under one, for some microseconds; but it neither unwinds, nor waits for another
// thread, nor calls the program. Rare and slow calls alone may meet at one that is held for longer: heap/allocator.cpp, and where the region is moved or copied.
// Not for signal handlers, or they only try it: the busy guard keeps nested hooks away from it.
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
