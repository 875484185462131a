// Finds the file that a command's name stands for, as execvp does, and says in a shell's words when there is none.
#pragma once
#include <string>

namespace tidemark::launch {

inline constexpr int kCannotRun = 125;  // tidemark itself failed or refused, as env and timeout have it
inline constexpr int kNotExecutable = 126;
inline constexpr int kNotFound = 127;

struct Program {
  std::string path;   // what execve will be given; empty: see the others
  int status = 0;     // kNotExecutable or kNotFound
  std::string error;  // one line
};

// `search_path` is $PATH, or nullptr for the system's default.
Program find_program(const std::string& name, const char* search_path);

// The last component of a path.
std::string base_name(const std::string& path);

}  // namespace tidemark::launch
