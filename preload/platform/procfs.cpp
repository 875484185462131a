#include "preload/platform/procfs.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

namespace tidemark::platform {
namespace {

constexpr uint32_t kLastField = 52;

bool read_stat(pid_t pid, uint64_t* fields, uint32_t last) {
  char path[40] = "/proc/self/stat", text[1024];
  if (pid) {
    char* p = put_number(path + 6, uint64_t(pid));
    memcpy(p, "/stat", 6);
  }
  text[read_file(path, text, sizeof(text) - 1)] = 0;
  return parse_stat(text, fields, last);
}

uint64_t stat_field(pid_t pid, uint32_t wanted) {
  uint64_t fields[kLastField + 1];
  return read_stat(pid, fields, wanted) ? fields[wanted] : 0;
}

int64_t now(clockid_t clock) {
  timespec t{};
  clock_gettime(clock, &t);
  return t.tv_sec * 1000000000ll + t.tv_nsec;
}

int hex_digit(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; }
}  // namespace

size_t read_file(const char* path, char* buffer, size_t max) {
  int saved = errno, fd = open(path, O_RDONLY | O_CLOEXEC);
  size_t total = 0;
  while (fd >= 0 && total < max) {
    ssize_t n = read(fd, buffer + total, max - total);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    total += size_t(n);
  }
  if (fd >= 0) close(fd);
  errno = saved;
  return total;
}

size_t read_link(const char* path, char* buffer, size_t max) {
  int saved = errno;
  ssize_t n = readlink(path, buffer, max);
  errno = saved;
  return n > 0 ? size_t(n) : 0;
}

bool parse_stat(const char* text, uint64_t* fields, uint32_t last) {
  const char* p = strrchr(text, ')');
  for (uint32_t field = 3; p && field <= last; field++) {
    p = strchr(p, ' ');
    if (p) fields[field] = strtoull(++p, nullptr, 10);
  }
  return p;
}

uint64_t process_start(pid_t pid) { return stat_field(pid, 22); }
pid_t process_parent(pid_t pid) { return pid_t(stat_field(pid, 4)); }

bool kin_of(pid_t pid, Kin& out) {
  uint64_t fields[23];
  if (!read_stat(pid, fields, 22)) return false;
  out = {pid_t(fields[4]), fields[22]};
  return true;
}

namespace {
// A container may see the /proc of another pid namespace, where our numbers are other processes'.
bool proc_is_ours() {
  char own[24]{}, seen[24]{};
  *put_number(own, uint64_t(getpid())) = 0;
  return read_link("/proc/self", seen, sizeof(seen) - 1) && strcmp(own, seen) == 0;
}
bool is_zombie(pid_t pid) {
  char path[40] = "/proc/", text[1024];
  memcpy(put_number(path + 6, uint64_t(pid)), "/stat", 6);
  text[read_file(path, text, sizeof(text) - 1)] = 0;
  uint64_t fields[21];
  const char* name_end = strrchr(text, ')');
  return name_end && name_end[1] == ' ' && (name_end[2] == 'Z' || name_end[2] == 'X') && parse_stat(text, fields, 20) && fields[20] <= 1;
}
}  // namespace

bool process_is_gone(pid_t pid) {
  int saved = errno;
  bool is_there = pid <= 0 || syscall(SYS_kill, pid, 0) == 0 || errno != ESRCH;
  errno = saved;
  return !is_there || (pid > 0 && is_zombie(pid) && proc_is_ours());
}

uint64_t pid_namespace() {
  struct stat s;
  int saved = errno;
  uint64_t inode = stat("/proc/self/ns/pid", &s) == 0 ? s.st_ino : 0;
  errno = saved;
  return inode;
}

bool boot_id(uint8_t out[16]) {
  char text[40];
  size_t n = read_file("/proc/sys/kernel/random/boot_id", text, sizeof(text)), digits = 0;
  for (size_t i = 0; i < n && digits < 32; i++) {
    int d = hex_digit(text[i]);
    if (d < 0) continue;
    out[digits / 2] = uint8_t(digits % 2 ? out[digits / 2] | d : d << 4);
    digits++;
  }
  return digits == 32;
}

// A zombie has no memory, hence no executable. Asked without a descriptor, which the program would see.
bool main_thread_has_ended() {
  int saved = errno;
  char path[8];
  bool ended = readlink("/proc/self/exe", path, sizeof(path)) < 0 && errno == ENOENT;
  errno = saved;
  return ended;
}

int main_thread_status() { return int(stat_field(0, 52)); }

bool kernel_is_at_least(long major, long minor) {
  utsname name;
  if (uname(&name) != 0) return false;
  char* rest;
  long first = strtol(name.release, &rest, 10), second = *rest == '.' ? strtol(rest + 1, nullptr, 10) : 0;
  return first > major || (first == major && second >= minor);
}

int64_t realtime_ns() { return now(CLOCK_REALTIME); }
int64_t monotonic_ns() { return now(CLOCK_MONOTONIC); }

char* put_number(char* p, uint64_t n) {
  char digits[20];
  uint32_t k = 0;
  do digits[k++] = char('0' + n % 10);
  while (n /= 10);
  while (k) *p++ = digits[--k];
  *p = 0;
  return p;
}

}  // namespace tidemark::platform
