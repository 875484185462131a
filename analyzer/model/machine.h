// The machine this program runs on.
#pragma once
#include <cstdint>

namespace tidemark::model {

struct Machine {
  uint64_t memory = 0, available = 0;  // bytes, MemTotal and MemAvailable of /proc/meminfo; 0: unknown

  static Machine here();
};

}  // namespace tidemark::model
