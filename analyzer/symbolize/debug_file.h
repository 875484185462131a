// Finds the file a module was loaded from, or its debug file, and makes sure that it is the same one.
#pragma once
#include <cstdint>
#include <string>

#include "analyzer/model/modules.h"

namespace tidemark::symbolize {

enum class FileMatch {
  kSame,       // the module's own file
  kDebugOnly,  // another file took its place or it is gone, but its debug file was found by build-id
  kChanged,    // a different file has that name now
  kMissing,
  kUnreadable,
};

struct FoundFile {
  FileMatch match = FileMatch::kMissing;
  std::string path;
};

struct SearchPlaces {
  int32_t running_pid = 0;  // of a process that still runs, in our /proc: its own view of the file system is searched, too
  int64_t process_started_ns = 0;
  std::string working_folder = {};  // the process's, at its start
  bool use_debuginfod = true;  // still only when DEBUGINFOD_URLS is set
};

// A file is the same when its build-id is. Without a build-id its size and mtime must be; when those were not recorded (the
// process died at once), it must be older than the process.
FoundFile find_file(const model::ModuleFile& module, const SearchPlaces& places);

}  // namespace tidemark::symbolize
