// tidemark report FILE|DIR…
#pragma once
#include <string>
#include <vector>

namespace tidemark::commands {

struct ReportArguments {
  std::vector<std::string> paths;  // regions, or folders with regions
  bool json = false;
  bool full = false;
  bool details = false;
  long top = -1;  // -1: 10 in text, all in JSON; 0: all
};

// Writes to stdout. Returns the exit status: 0, or 2 when anything could not be read (one line each on stderr, the rest is
// reported).
int report(const ReportArguments& arguments);

}  // namespace tidemark::commands
