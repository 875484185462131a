// unshare and setns refuse some namespaces to a process that has more than one thread. The keeper must not be the one too many.
#include <sched.h>
#include <sys/stat.h>
#include <time.h>

#include <cerrno>

#include "preload/hooks/caller.h"
#include "preload/hooks/real.h"
#include "preload/keeper/process_events.h"

namespace keeper = tidemark::keeper;
namespace real = tidemark::hooks::real;

namespace {

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

// What the kernel checks: a task folder's link count is the number of threads and two. 0 when /proc can't say.
unsigned thread_count() {
  struct stat tasks;
  return stat("/proc/self/task", &tasks) == 0 && tasks.st_nlink > 2 ? static_cast<unsigned>(tasks.st_nlink) - 2 : 0;
}

struct Attempt {
  int (*call)(int, int);
  int first, second;
  unsigned own_threads;  // the program's, without ours; 0: unknown
};

// A joined thread still counts for the kernel until it is reaped, a moment later.
bool keeper_counted(const Attempt& attempt, unsigned threads) {
  return attempt.own_threads == 0 || threads > attempt.own_threads;
}

int call_patiently(void* argument) {
  const Attempt& attempt = *static_cast<const Attempt*>(argument);
  constexpr int kTries = 100;
  for (int i = 0;; ++i) {
    // Counted before the call: the thread may be reaped between a refusal and a look afterwards.
    const unsigned threads = thread_count();
    const int result = attempt.call(attempt.first, attempt.second);
    const bool refused = result != 0 && (errno == EINVAL || errno == EUSERS);
    if (!refused || i == kTries || !keeper_counted(attempt, threads)) return result;
    const int error = errno;
    const timespec pause{0, 100'000};
    if (i < kTries / 2)
      sched_yield();
    else
      nanosleep(&pause, nullptr);
    errno = error;
  }
}

int call_without_keeper(Attempt attempt) {
  const unsigned threads = thread_count();
  const unsigned ours = keeper::own_threads();   // asked last: one that came meanwhile makes us patient in vain, not too hasty
  attempt.own_threads = threads > ours ? threads - ours : 0;
  return keeper::without_keeper(call_patiently, &attempt);
}

}  // namespace

TIDEMARK_HOOK int unshare(int flags) {
  constexpr int kSingleThreaded = CLONE_NEWUSER | CLONE_VM | CLONE_SIGHAND | CLONE_THREAD;
  if (!(flags & kSingleThreaded) || !keeper::keeper_is_running()) return real::unshare()(flags);
  return call_without_keeper({[](int wanted, int) { return real::unshare()(wanted); }, flags, 0, 0});
}

TIDEMARK_HOOK int setns(int fd, int type) {
  constexpr int kSingleThreaded = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWTIME;
  const bool any = type == 0;  // whatever the descriptor is
  if (!(any || (type & kSingleThreaded)) || !keeper::keeper_is_running()) return real::setns()(fd, type);
  return call_without_keeper({[](int of, int wanted) { return real::setns()(of, wanted); }, fd, type, 0});
}
