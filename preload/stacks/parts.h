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

}  // namespace tidemark::stacks
