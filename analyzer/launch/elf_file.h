// The few things about an executable file that decide whether ld.so will preload a library into it.
#pragma once
#include <string>
#include <vector>

namespace tidemark::launch {

enum class FileKind {
  kElf,         // for this machine; see `interpreter`
  kForeignElf,  // other processor, word size or byte order
  kDamagedElf,  // execve will refuse it
  kScript,      // begins with #!
  kOther,       // execvp gives it to /bin/sh, or binfmt_misc knows it
  kUnreadable,  // could not be opened or read
  kMissing,     // no such file
};

struct FileFacts {
  FileKind kind = FileKind::kUnreadable;
  std::string interpreter;  // kElf: PT_INTERP, empty when there is none; kScript: the program of the #! line
  std::string argument;     // kScript: all that follows it on that line, or empty
  std::string second_line;  // kScript
};

FileFacts read_file_facts(const std::string& path);

// The libraries that an executable names (DT_NEEDED), in their order; none where it has no section headers.
std::vector<std::string> needed_libraries(const std::string& path);

// True when execve of this file makes the process AT_SECURE, so that ld.so takes nothing from the environment: another user
// or group by a mode bit, or file capabilities.
bool gains_privileges(const std::string& path);

}  // namespace tidemark::launch
