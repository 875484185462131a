#include "preload/platform/usage.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "preload/format/region.h"
#include "preload/platform/kept_file.h"
#include "preload/platform/procfs.h"

namespace tidemark::platform {
namespace {

constexpr uint64_t kPage = format::kPageBytes;

// Not /proc/self, which is the main thread: once that has ended, by pthread_exit, it has no memory. What stat tells is of the whole process.
constinit KeptFile statm("/proc/thread-self/statm"), stat_file("/proc/self/stat"), status("/proc/thread-self/status"),
    rollup("/proc/thread-self/smaps_rollup");

// The number of kilobytes behind "KEY:", in bytes.
uint64_t kilobytes_of(const char* text, const char* key) {
  const char* at = strstr(text, key);
  return at ? strtoull(at + strlen(key), nullptr, 10) * 1024 : kNotKnown;
}

// The main thread's, for ours are others. Linux 6.2 and later tell the number as the folder's size.
uint64_t count_descriptors() {
  struct stat s;
  if (!may_open() || main_thread_has_ended()) return kNotKnown;
  if (stat("/proc/self/fd", &s) != 0) return kNotKnown;
  if (s.st_size > 0) return uint64_t(s.st_size);
  int fd = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return kNotKnown;
  alignas(8) char buffer[4 << 10];
  uint64_t count = 0;
  for (long n; (n = syscall(SYS_getdents64, fd, buffer, sizeof(buffer))) > 0;)
    for (long at = 0; at < n;) {
      auto* entry = reinterpret_cast<const dirent64*>(buffer + at);
      if (entry->d_name[0] != '.') count++;
      at += entry->d_reclen;
    }
  close(fd);
  return count;
}

void read_stat(Usage& out) {
  char text[1024];
  uint64_t fields[21];
  if (!stat_file.read(text) || !parse_stat(text, fields, 20)) return;
  uint64_t ticks = uint64_t(sysconf(_SC_CLK_TCK));
  out.minor_faults = fields[10];
  out.major_faults = fields[12];
  out.user_ms = fields[14] * 1000 / ticks;
  out.system_ms = fields[15] * 1000 / ticks;
  out.threads = fields[20];
}
}  // namespace

void read_memory(Usage& out) {
  char text[128];
  if (!statm.read(text)) return;
  char* rest;
  out.vms = strtoull(text, &rest, 10) * kPage;
  out.rss = strtoull(rest, nullptr, 10) * kPage;
}

void read_usage(Usage& out) {
  read_memory(out);
  read_stat(out);
  char text[4096];
  if (status.read(text)) out.swap = kilobytes_of(text, "VmSwap:");
  out.descriptors = count_descriptors();
}

uint64_t seccomp_state() {
  char text[4096];
  if (!status.read(text)) return 0;
  const char *mode = strstr(text, "\nSeccomp:"), *filters = strstr(text, "\nSeccomp_filters:");   // the latter since Linux 5.9
  return 1 + (mode ? strtoull(mode + 9, nullptr, 10) : 0) + (filters ? strtoull(filters + 17, nullptr, 10) << 8 : 0);
}

uint64_t read_pss() {
  char text[2048];
  return rollup.read(text) ? kilobytes_of(text, "\nPss:") : kNotKnown;
}

}  // namespace tidemark::platform
