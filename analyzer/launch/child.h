// Starts the program in a child process.
#pragma once
#include <sys/types.h>

#include <string>
#include <utility>
#include <vector>

#include "analyzer/launch/descriptor.h"
#include "analyzer/launch/signals.h"

namespace tidemark::launch {

using Environment = std::vector<std::pair<std::string, std::string>>;  // names and values to set; the rest stays

class Child {
 public:
  // Forks; the child gets the dispositions and the mask that `gate` kept, `environment`, then TIDEMARK_RUN =
  // `run_prefix` PID `run_suffix` with its own pid, and executes `command`. Check pid(): -1 when fork failed, errno says why.
  Child(const std::vector<std::string>& command, const Environment& environment, const std::string& run_prefix,
        const std::string& run_suffix, const SignalGate& gate);

  pid_t pid() const { return pid_; }

  // Once the child has ended: the errno of its execvp, 0 when that worked.
  int exec_error() const;

 private:
  pid_t pid_ = -1;
  Descriptor report_;  // read end; the write end closes in the child when exec works
};

// Executes `command` in place of this process, with `environment` added. Returns errno.
int execute(const std::vector<std::string>& command, const Environment& environment);

// Standard streams that the caller closed are opened on /dev/null, for this process alone: no file of ours takes their
// numbers, and the program finds them closed as it would without us. Call it before anything is opened.
void guard_standard_streams();

}  // namespace tidemark::launch
