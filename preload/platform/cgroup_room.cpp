#include "preload/platform/cgroup_room.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "preload/platform/cgroup_text.h"
#include "preload/platform/procfs.h"

namespace tidemark::platform {
namespace {

constexpr uint64_t kUnknown = UINT64_MAX, kBeside = 4 << 20;   // what the process itself takes at its start
// Not on the stack, which may be small.
constinit char buffer[4096], line[kCgroupLine], path_below[512];
constinit Cgroup own{};

// Calls visit() for each line of a file, in `line`, until it says true; lines that are longer are cut.
template <class Visit>
bool any_line(const char* path, Visit visit) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  size_t n = 0;
  bool found = false;
  for (ssize_t got; fd >= 0 && !found && ((got = read(fd, buffer, sizeof(buffer))) > 0 || (got < 0 && errno == EINTR));)
    for (ssize_t i = 0; i < got && !found; i++) {
      if (buffer[i] != '\n') {
        if (n + 1 < sizeof(line)) line[n++] = buffer[i];
        continue;
      }
      line[n] = 0;
      n = 0;
      found = visit();
    }
  if (fd >= 0) close(fd);
  return found;
}

bool find_own(bool version_2) {
  return any_line("/proc/self/cgroup", [&] { return cgroup_path(line, version_2, path_below); }) &&
         any_line("/proc/self/mountinfo", [&] { return find_at_mount(line, version_2, path_below, own); });
}

bool read_in(const Cgroup& c, size_t length, const char* file) {
  char path[600];
  size_t n = join_path(path, c.folder, length, file) ? read_file(path, buffer, sizeof(buffer) - 1) : 0;
  buffer[n] = 0;
  return n != 0;
}

uint64_t number_in(const Cgroup& c, size_t length, const char* file) {
  bool is_one = read_in(c, length, file) && buffer[0] >= '0' && buffer[0] <= '9';
  return is_one ? strtoull(buffer, nullptr, 10) : kUnknown;
}

// Version 1 counts what those below it have apart.
uint64_t counted(const Cgroup& c, const char* key, const char* with_those_below) {
  uint64_t n = c.version_2 ? kUnknown : keyed(buffer, with_those_below);
  return n != kUnknown ? n : keyed(buffer, key);
}

// What the kernel cannot take back by dropping files' pages. Those of tmpfs are among the files', and stay.
uint64_t working_set(const Cgroup& c, size_t length) {
  uint64_t usage = number_in(c, length, c.version_2 ? "memory.current" : "memory.usage_in_bytes");
  if (usage == kUnknown || !read_in(c, length, "memory.stat")) return kUnknown;
  uint64_t files = counted(c, c.version_2 ? "file" : "cache", "total_cache"), shared = counted(c, "shmem", "total_shmem");
  if (files == kUnknown || shared == kUnknown) return kUnknown;
  uint64_t dropped = files > shared ? files - shared : 0;
  return usage > dropped ? usage - dropped : 0;
}

bool has_room_at(const Cgroup& c, size_t length, uint64_t bytes) {
  uint64_t limit = number_in(c, length, c.version_2 ? "memory.max" : "memory.limit_in_bytes");
  if (limit >= kNoCgroupLimit) return true;
  uint64_t used = working_set(c, length);
  return used == kUnknown || used + bytes + kBeside <= limit / 8 * 7;
}
}  // namespace

bool cgroup_has_room(const Cgroup& c, uint64_t bytes) {
  for (size_t n = strlen(c.folder);; n--) {
    if ((!c.folder[n] || c.folder[n] == '/') && !has_room_at(c, n, bytes)) return false;
    if (n <= c.mount_length) return true;
  }
}

bool cgroup_has_room(uint64_t bytes) {
  int saved = errno;
  bool room = !(find_own(false) || find_own(true)) || cgroup_has_room(own, bytes);
  errno = saved;
  return room;
}

}  // namespace tidemark::platform
