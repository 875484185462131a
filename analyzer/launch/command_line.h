// What the words after `tidemark run` mean.
#pragma once
#include <string>
#include <vector>

#include "analyzer/launch/options.h"

namespace tidemark::launch {

struct CommandLine {
  OptionSet options;  // those of TIDEMARK_OPTIONS, then those of the command line
  bool strict = false;
  bool help = false;
  std::vector<std::string> command;  // the program and its arguments; empty only with help
  std::string error;                 // one line; nothing else counts when it is set
};

// `environment` is the present TIDEMARK_OPTIONS, or nullptr. Options end at `--` or at the first word that is none.
CommandLine parse_command_line(const std::vector<std::string>& words, const char* environment);

// The text of `tidemark run --help`.
std::string run_help();

}  // namespace tidemark::launch
