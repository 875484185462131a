// Sums and differences of counters that come from a file: they may be torn or forged, and must not wrap.
#pragma once
#include <cstdint>

namespace tidemark::region {

inline uint64_t saturating_add(uint64_t a, uint64_t b) { return a > UINT64_MAX - b ? UINT64_MAX : a + b; }
inline uint64_t saturating_sub(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }
inline void accumulate(uint64_t& sum, uint64_t more) { sum = saturating_add(sum, more); }

}  // namespace tidemark::region
