// The region of a running process.
#pragma once
#include <cstdint>
#include <stdexcept>
#include <string>

namespace tidemark::control {

// Why a process cannot be asked: one line for a person, what to do included.
class ControlError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The path of the region that the process writes to, as this process can open it. Throws ControlError: there is no such process, it is not
// ours to look at, or it is not recorded.
std::string region_of(int32_t pid);

bool is_alive(int32_t pid);

// Tells a process that is stopped (SIGSTOP, a debugger) from one whose tracer (strace) stops it for a moment at each system call.
class StopDetector {
 public:
  // `now_ns`: CLOCK_MONOTONIC. True when it was stopped a second ago, too, and has not run since; false also when it is gone.
  bool stays_stopped(int32_t pid, int64_t now_ns);

 private:
  int64_t since_ns_ = 0;   // 0: it was running when last seen
  uint64_t switches_ = 0;
};

}  // namespace tidemark::control
