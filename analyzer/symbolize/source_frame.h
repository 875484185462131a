// A frame in terms of the source.
#pragma once
#include <cstdint>
#include <string>

namespace tidemark::symbolize {

struct SourceFrame {
  std::string function;  // demangled; empty: unknown
  std::string file;      // absolute where the debug information allows; empty: unknown
  uint32_t line = 0;     // 0: unknown
  bool inlined = false;  // compiled into the frame that follows
};

}  // namespace tidemark::symbolize
