// The launcher's stand between its parent and the program: signals sent to it are the program's, and so is its end.
#pragma once
#include <signal.h>
#include <sys/types.h>

#include <functional>

namespace tidemark::launch {

// Blocks all signals of this process from construction on, so that none is lost before wait_for() takes them. What the
// program must start with is kept, and put back by restore().
class SignalGate {
 public:
  SignalGate();
  void restore() const;  // in the child, before exec

  // Waits until `child` has ended, passing on signals meanwhile and stopping with it under job control. Calls `at_times`
  // after `first_millis` and then after the milliseconds that it returned, later if it takes its time. Returns waitpid's status.
  int wait_for(pid_t child, int first_millis, const std::function<int()>& at_times) const;

 private:
  sigset_t mask_before_;
  struct sigaction sigchld_before_;
};

// Where a file may not grow (RLIMIT_FSIZE), that is an error meanwhile and not the end. Afterwards SIGXFSZ is as the program is to find it.
class SurvivesFileSizeLimit {
 public:
  SurvivesFileSizeLimit();
  ~SurvivesFileSizeLimit();
  SurvivesFileSizeLimit(const SurvivesFileSizeLimit&) = delete;
  SurvivesFileSizeLimit& operator=(const SurvivesFileSizeLimit&) = delete;

 private:
  struct sigaction before_;
};

// Ends this process so that its parent sees `wait_status`: the same exit status, or death by the same signal (without a core
// file of ours).
[[noreturn]] void end_like(int wait_status);

}  // namespace tidemark::launch
