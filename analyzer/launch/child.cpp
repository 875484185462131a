#include "analyzer/launch/child.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

namespace tidemark::launch {
namespace {

[[noreturn]] void become(const std::vector<std::string>& command, const Environment& environment, int report_fd) {
  int error = execute(command, environment);
  ssize_t written = write(report_fd, &error, sizeof error);
  _exit(written > 0 ? 127 : 126);
}

}  // namespace

Child::Child(const std::vector<std::string>& command, const Environment& environment, const std::string& run_prefix,
             const std::string& run_suffix, const SignalGate& gate) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return;
  report_ = Descriptor(ends[0]);
  Descriptor write_end(ends[1]);
  int death_signal = 0;
  prctl(PR_GET_PDEATHSIG, &death_signal);
  pid_ = fork();
  if (pid_ != 0) return;
  // Whoever started us with a parent-death signal meant the program; it passes from us to it.
  if (death_signal) prctl(PR_SET_PDEATHSIG, death_signal);
  Environment whole = environment;
  whole.emplace_back("TIDEMARK_RUN", run_prefix + std::to_string(getpid()) + run_suffix);
  gate.restore();
  become(command, whole, write_end.get());
}

int Child::exec_error() const {
  int error = 0;
  return read(report_.get(), &error, sizeof error) == sizeof error ? error : 0;
}

int execute(const std::vector<std::string>& command, const Environment& environment) {
  for (const auto& [name, value] : environment) setenv(name.c_str(), value.c_str(), 1);
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  execvp(arguments[0], arguments.data());
  return errno;
}

void guard_standard_streams() {
  for (int fd = 0; fd <= 2; ++fd) {
    if (fcntl(fd, F_GETFD) >= 0) continue;
    if (open("/dev/null", O_RDWR | O_CLOEXEC) != fd) return;  // the lowest free number is fd
  }
}

}  // namespace tidemark::launch
