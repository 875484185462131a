#include "analyzer/launch/signals.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <ctime>

#include "analyzer/launch/descriptor.h"

namespace tidemark::launch {
namespace {

bool has_terminal() { return bool(Descriptor(open("/dev/tty", O_RDONLY | O_NOCTTY | O_CLOEXEC))); }

// The kernel sends what comes from the terminal to the whole foreground group: the program has it already. Two exceptions go
// to one process alone: an alarm set before we were started, and a hang-up, which only the session's leader gets.
bool is_for_program(const siginfo_t& info) {
  if (info.si_signo == SIGCHLD) return false;
  if (info.si_code == SI_USER) return info.si_pid != getpid();  // our own: SIGPIPE
  if (info.si_code == SI_QUEUE || info.si_code == SI_TKILL) return true;
  if (info.si_signo == SIGALRM) return true;
  return (info.si_signo == SIGHUP || info.si_signo == SIGCONT) && getsid(0) == getpid();
}

void pass_on(pid_t child, const siginfo_t& info) {
  if (info.si_code == SI_QUEUE) {
    sigqueue(child, info.si_signo, info.si_value);
  } else {
    kill(child, info.si_signo);
  }
}

// Stops this process as the program was stopped, so that a job-control shell takes the terminal back. On SIGCONT it returns.
// A signal of the same kind that waits in our queue is used up by it. Not for SIGSTOP, nor without a terminal: whoever
// stopped just the program will continue just the program, and we would never wake.
void stop_like(int signal) {
  bool job_control = signal == SIGTTIN || signal == SIGTTOU || (signal == SIGTSTP && has_terminal());
  if (!job_control) return;
  struct sigaction before, stop{};
  stop.sa_handler = SIG_DFL;
  sigaction(signal, &stop, &before);
  sigset_t only;
  sigemptyset(&only);
  sigaddset(&only, signal);
  kill(getpid(), signal);
  sigprocmask(SIG_UNBLOCK, &only, nullptr);
  sigprocmask(SIG_BLOCK, &only, nullptr);
  sigaction(signal, &before, nullptr);
}

// True when `child` has ended. As process 1 of a container we also inherit orphans, whom nobody else would bury.
bool look_at_children(pid_t child, int& status) {
  pid_t whom = getpid() == 1 ? -1 : child;
  int now;
  for (pid_t pid; (pid = waitpid(whom, &now, WNOHANG | WUNTRACED)) != 0;) {
    if (pid < 0 && errno == EINTR) continue;
    if (pid < 0) return true;  // cannot be; but don't wait for ever
    if (pid != child) continue;
    if (WIFSTOPPED(now)) {
      stop_like(WSTOPSIG(now));
      continue;
    }
    status = now;
    return true;
  }
  return false;
}

double seconds_of(clockid_t clock) {
  timespec now;
  clock_gettime(clock, &now);
  return double(now.tv_sec) + 1e-9 * double(now.tv_nsec);
}

}  // namespace

SignalGate::SignalGate() {
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, &mask_before_);
  // A parent that ignores SIGCHLD has us inherit that, and the kernel would drop the program's status.
  struct sigaction keep {};
  keep.sa_handler = SIG_DFL;
  sigaction(SIGCHLD, &keep, &sigchld_before_);
}

void SignalGate::restore() const {
  sigaction(SIGCHLD, &sigchld_before_, nullptr);
  sigprocmask(SIG_SETMASK, &mask_before_, nullptr);
}

int SignalGate::wait_for(pid_t child, int first_millis, const std::function<int()>& at_times) const {
  sigset_t all;
  sigfillset(&all);
  int status = 0;
  double due = seconds_of(CLOCK_MONOTONIC) + 1e-3 * first_millis;
  while (!look_at_children(child, status)) {
    double left = due - seconds_of(CLOCK_MONOTONIC);
    if (left <= 0) {
      double used = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
      double pause = 1e-3 * at_times();
      used = seconds_of(CLOCK_PROCESS_CPUTIME_ID) - used;
      due = seconds_of(CLOCK_MONOTONIC) + std::max(pause, 20 * used);  // never more than 5 % of a processor
      continue;
    }
    timespec timeout{time_t(left), long((left - double(time_t(left))) * 1e9)};
    siginfo_t info;
    if (sigtimedwait(&all, &info, &timeout) > 0 && is_for_program(info)) pass_on(child, info);
  }
  return status;
}

SurvivesFileSizeLimit::SurvivesFileSizeLimit() {
  struct sigaction ignore {};
  ignore.sa_handler = SIG_IGN;
  sigaction(SIGXFSZ, &ignore, &before_);
}

SurvivesFileSizeLimit::~SurvivesFileSizeLimit() {
  int error = errno;
  sigaction(SIGXFSZ, &before_, nullptr);
  errno = error;
}

void end_like(int wait_status) {
  if (!WIFSIGNALED(wait_status)) _exit(WEXITSTATUS(wait_status));
  int signal = WTERMSIG(wait_status);
  rlimit none{0, 0};
  setrlimit(RLIMIT_CORE, &none);
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);  // core_pattern's programs are called whatever the limit
  struct sigaction action {};
  action.sa_handler = SIG_DFL;
  sigaction(signal, &action, nullptr);
  sigset_t only;
  sigemptyset(&only);
  sigaddset(&only, signal);
  kill(getpid(), signal);
  sigprocmask(SIG_UNBLOCK, &only, nullptr);
  _exit(128 + signal);  // process 1 of a container cannot die of a signal
}

}  // namespace tidemark::launch
