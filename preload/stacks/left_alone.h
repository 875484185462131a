// Places whose layouts change too often to be asked: their stacks are walked at once. Of a compiler's calls two in three are from such, and each had
// waited for the place's line only to read there that it is of no use. So they are noted once more, close together, and a thread that has mostly to do with
// them asks here first: it leaves the quick way for a while (base::ThreadState::quick_span).
#pragma once
#include <atomic>

#include "preload/base/common.h"
#include "preload/base/thread_state.h"

namespace tidemark::stacks {

inline constexpr uint32_t kLeftAlone = 8192;
TIDEMARK_OWN std::atomic<uint16_t> left_alone[kLeftAlone];   // by the place's key; 0: none

inline std::atomic<uint16_t>& left_alone_at(uint64_t key) { return left_alone[key >> 33 & (kLeftAlone - 1)]; }
inline uint16_t left_alone_mark(uint64_t key) { return uint16_t(key >> 47) | 1; }
// Wrong once in 2^15 times for a place that shares its entry: such a stack is walked, too.
TIDEMARK_INLINE bool is_left_alone(uint64_t key) { return left_alone_at(key).load(std::memory_order_relaxed) == left_alone_mark(key); }
inline void leave_alone(uint64_t key) { left_alone_at(key).store(left_alone_mark(key), std::memory_order_relaxed); }
inline void ask_again(uint64_t key) {
  if (is_left_alone(key)) left_alone_at(key).store(0, std::memory_order_relaxed);
}

// Which calls there are more of decides, those from such places or others: off the quick way a thread is after so many of the former as its reluctance
// says, and on it again when the others have made up for them. Who was off for a short time only is more reluctant the next time: it takes twice as many.
inline constexpr uint16_t kLeaning = 32, kMostLeaning = 64, kMostReluctance = 7;
inline bool is_off_quick_way(const base::ThreadState& t) { return t.quick_span != t.stack_span; }

// What a thread spends on places whose layouts change. Off the quick way walks are the rule: what they need is near, so they cost little more than asking
// in vain does, and less is spent. Not in all threads: where walks are seldom, they are dear (tests/bench/README.md: murmur).
struct Effort {
  uint32_t takes_back;   // failures that a hit makes up for
  uint32_t looks;        // of so many failures one is looked into
  uint32_t asks;         // of so many look-ups at a place that is left alone, one asks it: it may have become steady. Powers of two
};
inline Effort effort_of(const base::ThreadState& t) { return is_off_quick_way(t) ? Effort{1, 4, 64} : Effort{2, 2, 32}; }

inline void lean_off(base::ThreadState& t) {
  if (is_off_quick_way(t)) {
    if (t.leaning < kMostLeaning) t.leaning++;
    else t.reluctance = 0;
  } else if (++t.leaning >= kLeaning << t.reluctance) {
    t.quick_span = 0;
    t.leaning = kLeaning;
  }
}
inline void lean_back(base::ThreadState& t) {
  if (!is_off_quick_way(t)) return;
  if (t.leaning && --t.leaning) return;   // 0: off by ThreadState::lower_stack_to, at whatever it leant to
  const address span = t.stack_span;
  __atomic_exchange_n(&t.quick_span, span, __ATOMIC_SEQ_CST);
  if (__atomic_load_n(&t.stack_span, __ATOMIC_SEQ_CST) != span) t.quick_span = 0;   // another thread has lowered it meanwhile, first this and then that
  if (t.reluctance < kMostReluctance) t.reluctance++;
}

}  // namespace tidemark::stacks
