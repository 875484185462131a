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

// Whether it is stopped (SIGSTOP, a debugger); false also when it is gone.
bool is_stopped(int32_t pid);
bool is_alive(int32_t pid);

}  // namespace tidemark::control
