// CPython 3.12 and later counts the process's threads in /proc/self/stat at os.fork() and warns on standard error when there are
// several. The keeper and its helper are none of the program's: they are taken off the number that the program reads there.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "preload/hooks/caller.h"
#include "preload/hooks/real.h"
#include "preload/keeper/process_events.h"

namespace keeper = tidemark::keeper;
namespace real = tidemark::hooks::real;

namespace {

constexpr size_t kLine = 4096;

// Lowers field 20 by `ours`. The second field, the name in parentheses, may hold anything, so fields are counted from its end.
size_t without_threads(long ours, const char* line, size_t length, char* result) {
  const auto* name_end = static_cast<const char*>(memrchr(line, ')', length));
  const char* field = name_end;
  for (int number = 2; field != nullptr && number < 20; ++number) {
    field = static_cast<const char*>(memchr(field, ' ', static_cast<size_t>(line + length - field)));
    if (field != nullptr) ++field;
  }
  char* rest = nullptr;
  const long threads = field == nullptr ? 0 : strtol(field, &rest, 10);
  if (threads <= ours) return 0;
  const int head = snprintf(result, kLine, "%.*s%ld", static_cast<int>(field - line), line, threads - ours);
  const size_t tail = static_cast<size_t>(line + length - rest);
  memcpy(result + head, rest, tail);
  return static_cast<size_t>(head) + tail;
}

// A file of its own behind the stream, so that the program may also use its descriptor. Null: let the real open go on.
FILE* open_without_keeper(const char* mode) {
  char line[kLine], changed[kLine];
  const int stat = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
  if (stat < 0) return nullptr;
  const ssize_t length = read(stat, line, sizeof(line) - 1);
  close(stat);
  if (length <= 0) return nullptr;
  line[length] = '\0';
  const size_t size = without_threads(keeper::own_threads(), line, static_cast<size_t>(length), changed);
  if (size == 0) return nullptr;

  const int file = memfd_create("stat", strchr(mode, 'e') != nullptr ? MFD_CLOEXEC : 0);
  if (file < 0) return nullptr;
  FILE* stream = nullptr;
  if (write(file, changed, size) == static_cast<ssize_t>(size) && lseek(file, 0, SEEK_SET) == 0) stream = fdopen(file, mode);
  if (stream == nullptr) close(file);
  return stream;
}

// A filter may kill who makes a file, and a limit of nothing who writes to one.
bool may_copy() {
  rlimit size{};
  return !keeper::monitor_is_confined() && getrlimit(RLIMIT_FSIZE, &size) == 0 && size.rlim_cur >= kLine;
}

inline bool counts_the_keeper(const char* path, const char* mode) {
  return path != nullptr && mode != nullptr && mode[0] == 'r' && strcmp(path, "/proc/self/stat") == 0 &&
         keeper::keeper_is_running() && may_copy();
}

}  // namespace

TIDEMARK_HOOK FILE* fopen(const char* path, const char* mode) {
  if (counts_the_keeper(path, mode)) [[unlikely]]
    if (FILE* stream = open_without_keeper(mode)) return stream;
  return real::fopen()(path, mode);
}

TIDEMARK_HOOK FILE* fopen64(const char* path, const char* mode) {
  if (counts_the_keeper(path, mode)) [[unlikely]]
    if (FILE* stream = open_without_keeper(mode)) return stream;
  return real::fopen64()(path, mode);
}
