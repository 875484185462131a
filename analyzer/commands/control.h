// stats, cleanup, snapshot, stop, set: the memory manager's controls, on a running process.
#pragma once
#include <cstdint>
#include <string>

namespace tidemark::commands {

struct ControlArguments {
  int32_t pid = 0;
  bool json = false;
  std::string output;   // snapshot: where the copy goes; empty: beside the region
  std::string setting;  // set: key=value
};

// Exit statuses; one line on standard error where it is not 0.
int stats(const ControlArguments& arguments);
int cleanup(const ControlArguments& arguments);
int snapshot(const ControlArguments& arguments);
int stop(const ControlArguments& arguments);
int set(const ControlArguments& arguments);

}  // namespace tidemark::commands
