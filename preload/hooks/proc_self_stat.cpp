// CPython 3.12 and later counts the process's threads in /proc/self/stat at os.fork() and warns on standard error when there are
// several. The keeper and its helper are none of the program's: they are taken off the number that the program reads there.
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "preload/base/memory.h"
#include "preload/hooks/caller.h"
#include "preload/hooks/real.h"
#include "preload/keeper/process_events.h"

namespace base = tidemark::base;
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

// A stream that reads the file as stdio does, by the same system calls, each time it is at the beginning. It has no descriptor for the program to ask for.
struct Stream {
  int file;
  size_t at, length;
  char line[kLine], changed[kLine];

  void read_anew() {
    lseek(file, 0, SEEK_SET);
    const ssize_t size = read(file, line, sizeof(line) - 1);
    line[size > 0 ? size : 0] = '\0';
    length = size > 0 ? without_threads(keeper::own_threads(), line, static_cast<size_t>(size), changed) : 0;
    if (length == 0 && size > 0) memcpy(changed, line, length = static_cast<size_t>(size));
  }
};

ssize_t read_stream(void* cookie, char* to, size_t size) {
  auto& stream = *static_cast<Stream*>(cookie);
  if (stream.at == 0) stream.read_anew();
  if (stream.at >= stream.length) return 0;
  if (size > stream.length - stream.at) size = stream.length - stream.at;
  memcpy(to, stream.changed + stream.at, size);
  stream.at += size;
  return static_cast<ssize_t>(size);
}

int seek_stream(void* cookie, off64_t* offset, int whence) {
  auto& stream = *static_cast<Stream*>(cookie);
  const off64_t at = *offset + (whence == SEEK_CUR ? static_cast<off64_t>(stream.at) : whence == SEEK_END ? static_cast<off64_t>(stream.length) : 0);
  if (at < 0) return -1;
  *offset = at;
  stream.at = static_cast<size_t>(at);
  return 0;
}

int close_stream(void* cookie) {
  const int result = close(static_cast<Stream*>(cookie)->file);
  base::unmap(cookie, sizeof(Stream));
  return result;
}

// Null: let the real open go on.
FILE* open_without_keeper(const char* mode) {
  auto* stream = static_cast<Stream*>(base::map_private(sizeof(Stream)));
  if (stream == nullptr) return nullptr;
  stream->file = open("/proc/self/stat", O_RDONLY | (strchr(mode, 'e') != nullptr ? O_CLOEXEC : 0));
  if (stream->file >= 0) {
    if (FILE* opened = fopencookie(stream, "r", {read_stream, nullptr, seek_stream, close_stream})) return opened;
    close(stream->file);
  }
  base::unmap(stream, sizeof(Stream));
  return nullptr;
}

inline bool counts_the_keeper(const char* path, const char* mode) {
  return path != nullptr && mode != nullptr && mode[0] == 'r' && strchr(mode, '+') == nullptr && strcmp(path, "/proc/self/stat") == 0 &&
         keeper::keeper_is_running();
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
