// How a process ends or becomes another program.
//
// exit and the return from main are seen by an on_exit function (startup.cpp). libc ends the process by internal calls that no
// hook sees, and its own exec functions call each other internally: each is interposed by itself.
#include <alloca.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "preload/base/memory.h"
#include "preload/hooks/caller.h"
#include "preload/hooks/real.h"
#include "preload/keeper/process_events.h"

namespace keeper = tidemark::keeper;
using keeper::Look;
namespace real = tidemark::hooks::real;

namespace {

// Should the function behind be missing: what libc's does.
template <typename Function>
[[noreturn]] void end_process(Function* real_exit, int status) {
  keeper::note_exit(status);
  if (real_exit != nullptr) real_exit(status);
  for (;;) syscall(SYS_exit_group, status);
}

}  // namespace

TIDEMARK_HOOK void _exit(int status) { end_process(real::_exit(), status); }
TIDEMARK_HOOK void _Exit(int status) { end_process(real::_Exit(), status); }
TIDEMARK_HOOK void quick_exit(int status) { end_process(real::quick_exit(), status); }

// Its parent ends by a call inside libc; the child is like any other. It may fail, and the program go on.
TIDEMARK_HOOK int daemon(int keeps_folder, int keeps_streams) {
  keeper::DaemonCall call;
  keeper::note_daemon_to_come(call);
  const int result = real::daemon()(keeps_folder, keeps_streams);
  const int error = errno;
  keeper::note_daemon_returned(result != 0);
  errno = error;
  return result;
}

namespace {

// An exec function comes back only when it failed.
template <typename Call>
int exec(const char* path, char* const envp[], keeper::Look look, Call call) {
  const keeper::Loss counted = keeper::note_exec(path, envp, look);
  call();
  const int error = errno;
  keeper::note_exec_failed(counted);
  errno = error;
  return -1;
}

int exec_path(const char* path, char* const argv[], char* const envp[]) {
  return exec(path, envp, Look::kPath, [&] { real::execve()(path, argv, envp); });
}

int exec_searched(const char* file, char* const argv[], char* const envp[]) {
  return exec(file, envp, Look::kSearched, [&] { real::execvpe()(file, argv, envp); });
}

}  // namespace

TIDEMARK_HOOK int execve(const char* path, char* const argv[], char* const envp[]) { return exec_path(path, argv, envp); }
TIDEMARK_HOOK int execv(const char* path, char* const argv[]) { return exec_path(path, argv, environ); }
TIDEMARK_HOOK int execvp(const char* file, char* const argv[]) { return exec_searched(file, argv, environ); }
TIDEMARK_HOOK int execvpe(const char* file, char* const argv[], char* const envp[]) { return exec_searched(file, argv, envp); }

TIDEMARK_HOOK int fexecve(int fd, char* const argv[], char* const envp[]) {
  return exec(nullptr, envp, Look::kNot, [&] { real::fexecve()(fd, argv, envp); });
}

TIDEMARK_HOOK int execveat(int dirfd, const char* path, char* const argv[], char* const envp[], int flags) {
  const bool is_path = dirfd == AT_FDCWD && !(flags & AT_EMPTY_PATH);
  return exec(flags & AT_EMPTY_PATH ? nullptr : path, envp, is_path ? Look::kPath : Look::kNot, [&] { real::execveat()(dirfd, path, argv, envp, flags); });
}

// glibc's child executes by a call inside libc.
namespace {

template <typename Call>
int spawn(const char* path, char* const envp[], keeper::Look look, Call call) {
  const keeper::Loss counted = keeper::note_spawn(path, envp, look);
  const int error = call();
  if (error != 0) keeper::note_spawn_failed(counted);
  return error;
}

}  // namespace

TIDEMARK_HOOK int posix_spawn(pid_t* pid, const char* path, const posix_spawn_file_actions_t* actions, const posix_spawnattr_t* attributes,
                              char* const argv[], char* const envp[]) {
  const bool elsewhere = actions && !(tidemark::base::readable(path) && *path == '/');   // it may go to another folder first
  return spawn(path, envp, elsewhere ? Look::kNot : Look::kPath, [&] { return real::posix_spawn()(pid, path, actions, attributes, argv, envp); });
}

TIDEMARK_HOOK int posix_spawnp(pid_t* pid, const char* file, const posix_spawn_file_actions_t* actions, const posix_spawnattr_t* attributes,
                               char* const argv[], char* const envp[]) {
  return spawn(file, envp, actions && strchr(file, '/') ? Look::kNot : Look::kSearched, [&] { return real::posix_spawnp()(pid, file, actions, attributes, argv, envp); });
}

// The list forms may be called in a vfork child: the array lies on the stack, as it does in libc.
namespace {

size_t count_arguments(const char* first, va_list list) {
  if (first == nullptr) return 0;
  size_t count = 1;
  while (va_arg(list, const char*) != nullptr) ++count;
  return count;
}

// Fills argv[0..count], the null at its end included.
void collect_arguments(char** argv, size_t count, const char* first, va_list list) {
  argv[0] = const_cast<char*>(first);
  for (size_t i = 1; i <= count; ++i) argv[i] = va_arg(list, char*);
}

}  // namespace

// A macro, since alloca's memory lives as long as the function it stands in. `list` is left behind the null.
#define TIDEMARK_COLLECT_ARGUMENTS(argv, first, list)                            \
  va_list list;                                                                  \
  va_start(list, first);                                                         \
  const size_t argv##_count = count_arguments(first, list);                      \
  va_end(list);                                                                  \
  char** argv = static_cast<char**>(alloca((argv##_count + 1) * sizeof(char*))); \
  va_start(list, first);                                                         \
  collect_arguments(argv, argv##_count, first, list)

TIDEMARK_HOOK int execl(const char* path, const char* first, ...) {
  TIDEMARK_COLLECT_ARGUMENTS(argv, first, list);
  va_end(list);
  return exec_path(path, argv, environ);
}

TIDEMARK_HOOK int execlp(const char* file, const char* first, ...) {
  TIDEMARK_COLLECT_ARGUMENTS(argv, first, list);
  va_end(list);
  return exec_searched(file, argv, environ);
}

TIDEMARK_HOOK int execle(const char* path, const char* first, ...) {
  TIDEMARK_COLLECT_ARGUMENTS(argv, first, list);
  char** envp = va_arg(list, char**);
  va_end(list);
  return exec_path(path, argv, envp);
}
