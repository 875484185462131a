// Whether anything is known of a part of memory, so that who unmaps much elsewhere need not look for each of its pages. Fit for signal handlers.
#pragma once
#include <atomic>

#include "preload/base/common.h"

namespace tidemark::stacks {

// A bit for each 2 MiB, which is never taken back, and is another part's, too, 8 GiB further on.
class Parts {
 public:
  void note(address a) {
    const address part = a / kPartBytes;
    if (!(word_of(part).load(std::memory_order_relaxed) & bit_of(part))) word_of(part).fetch_or(bit_of(part), std::memory_order_relaxed);
  }
  // No: nothing was noted from `start` to before `end`.
  bool may_have(address start, address end) const {
    if (end <= start) return false;
    const address last = (end - 1) / kPartBytes;
    for (address part = start / kPartBytes, i = 0; part <= last && i < kParts; part++, i++)
      if (words_[part % kParts / 64].load(std::memory_order_relaxed) & bit_of(part)) return true;
    return false;
  }

 private:
  static constexpr address kPartBytes = 2 << 20, kParts = 4096;
  static uint64_t bit_of(address part) { return uint64_t{1} << part % 64; }
  std::atomic<uint64_t>& word_of(address part) { return words_[part % kParts / 64]; }
  std::atomic<uint64_t> words_[kParts / 64]{};
};

// How many things there are in parts of memory. One thread at a time adds; who asks need not wait. Not before each part has had another does a full table say yes
// to everything.
class PartCounts {
 public:
  void add(address a, int32_t n) {
    const uint64_t part = a / kPartBytes + 1;
    for (uint32_t i = home(part), left = kSlots; left--; i = (i + 1) % kSlots) {
      const uint64_t slot = slots_[i].load(std::memory_order_relaxed);
      if (slot && slot >> 32 != part) continue;
      return slots_[i].store((slot ? slot : part << 32) + uint64_t(int64_t{n}), std::memory_order_release);
    }
    full_.store(true, std::memory_order_release);
  }
  bool any(address start, address end) const {
    if (end <= start) return false;
    const uint64_t first = start / kPartBytes + 1, last = (end - 1) / kPartBytes + 1;
    if (full_.load(std::memory_order_acquire) || last - first >= kSlots) return true;
    for (uint64_t part = first; part <= last; part++)
      if (count_of(part)) return true;
    return false;
  }

 private:
  static constexpr address kPartBytes = 2 << 20;
  static constexpr uint32_t kSlots = 1024;
  static uint32_t home(uint64_t part) { return uint32_t(part * 0x9E3779B97F4A7C15ull >> 54); }
  uint32_t count_of(uint64_t part) const {
    for (uint32_t i = home(part), left = kSlots; left--; i = (i + 1) % kSlots) {
      const uint64_t slot = slots_[i].load(std::memory_order_acquire);
      if (!slot || slot >> 32 == part) return uint32_t(slot);
    }
    return 0;
  }
  std::atomic<uint64_t> slots_[kSlots]{};   // part << 32 | count; 0: free
  std::atomic<bool> full_{false};
};

}  // namespace tidemark::stacks
