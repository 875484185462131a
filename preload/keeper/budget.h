// How often the keeper may do work whose cost grows with the process: so seldom that it takes no more than a part of one processor, also while the
// process grows.
#pragma once
#include <time.h>

#include <cstdint>

#include "preload/format/timeline.h"

namespace tidemark::keeper {

// Of work done by one thread of ours at a time. Times in ns, of CLOCK_MONOTONIC.
class Budget {
 public:
  // Work of t ns is followed by part × t without it. fixed: for how many bytes there is work in any process.
  constexpr explicit Budget(int64_t part, uint64_t fixed = 16 << 20) : part_(part), fixed_(fixed) {}

  // size: bytes that the work is in proportion to; format::kUnknown: taken for what it was.
  bool allows(int64_t now, uint64_t size) const {
    bool grown = size != format::kUnknown && size > size_ && size_ + fixed_;
    double growth = grown ? (double(size) + double(fixed_)) / (double(size_) + double(fixed_)) : 1;
    return !cost_ || double(now - last_) >= double(part_) * double(cost_) * growth;
  }
  template <class Work>
  auto spend(int64_t now, uint64_t size, Work work) {
    int64_t before = cpu_time();
    auto result = work();
    note(now, size, cpu_time() - before);
    return result;
  }
  void note(int64_t now, uint64_t size, int64_t cost) { last_ = now, size_ = size, cost_ = cost; }
  int64_t cost() const { return cost_; }   // of the last work
  void forget() { note(0, 0, 0); }

 private:
  static int64_t cpu_time() {
    timespec t{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * 1'000'000'000ll + t.tv_nsec;
  }

  int64_t part_, last_ = 0, cost_ = 0;
  uint64_t fixed_, size_ = 0;
};

}  // namespace tidemark::keeper
