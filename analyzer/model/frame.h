// One frame of a call stack, by its place in the file it was loaded from.
#pragma once
#include <cstdint>

namespace tidemark::model {

inline constexpr uint32_t kNoModule = UINT32_MAX;

struct Frame {
  uint32_t module = kNoModule;  // index into ModuleMap::files
  uint64_t offset = 0;          // virtual address in that file; without a module: the pc
  bool exact = false;           // the interrupted instruction itself, not a return address
  bool signal = false;          // signal trampoline
  bool guessed = false;         // passed by following the frame pointer
};

}  // namespace tidemark::model
