// Whether preloading can enter a program, seen through scripts down to the executable that the kernel will load.
#pragma once
#include <string>

#include "analyzer/launch/options.h"

namespace tidemark::launch {

enum class Barrier {
  kNone,
  kStatic,        // no PT_INTERP: no ld.so that could preload
  kPrivileged,    // setuid, setgid or file capabilities
  kOtherMachine,  // other processor or word size
  kMusl,          // musl's ld.so: our library needs glibc
  kSanitizer,     // its runtime library is an allocator that must be the first one, or does nothing beside another
  kUnreadable,    // nothing to judge by
  kMissing,       // the interpreter of a script is not there: nothing can run
};

struct Entry {
  Barrier barrier = Barrier::kNone;
  std::string file;     // the executable that decides, which may be a script's interpreter
  bool python = false;  // a CPython will run
};

// `path` as find_program gave it; `search_path` is $PATH, for `#!/usr/bin/env NAME`.
Entry examine(const std::string& path, const char* search_path);

// One sentence: why the program runs unrecorded and what to do.
std::string explain(const Entry& entry);

// The value to give PYTHONMALLOC, or empty: no Python, the user has set it, or option py_malloc says keep.
std::string python_malloc(const Entry& entry, const OptionSet& options, const char* present);

}  // namespace tidemark::launch
