#pragma once
#include <cstddef>

namespace tidemark::hooks {

// std::has_single_bit counts bits, for which GCC calls a function of libgcc_s on processors without that instruction.
constexpr bool is_power_of_two(size_t value) { return value != 0 && (value & (value - 1)) == 0; }

}  // namespace tidemark::hooks
