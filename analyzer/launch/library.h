// Where libtidemark.so is, and how ld.so is told of it.
#pragma once
#include <string>

namespace tidemark::launch {

struct Library {
  std::string path;   // absolute
  std::string error;  // one line, when there is none that can be preloaded
};

// $TIDEMARK_LIBRARY (`override_path`) when given; else beside this executable, as the build leaves it or as installed.
Library find_library(const char* override_path);

// The value for LD_PRELOAD: `library` first, then what `present` (may be nullptr) holds, without a second `library`.
std::string preload_list(const std::string& library, const char* present);

}  // namespace tidemark::launch
