#include "preload/platform/cgroup.h"

#include <sys/stat.h>

#include <cstdlib>
#include <cstring>

#include "preload/platform/cgroup_text.h"
#include "preload/platform/kept_file.h"
#include "preload/platform/usage.h"

namespace tidemark::platform {
namespace {

// The files of the present cgroup and of those above, kept open.
struct Kept {
  char path[600];
  KeptFile file;
};
constexpr uint32_t kKept = 16;
Kept kept[kKept];
constinit uint32_t kept_used = 0;

KeptFile* kept_file(const char* path) {
  for (uint32_t i = 0; i < kept_used; i++)
    if (strcmp(kept[i].path, path) == 0) return &kept[i].file;
  if (kept_used == kKept) return nullptr;
  Kept& k = kept[kept_used++];
  strcpy(k.path, path);
  k.file.name(k.path);
  return &k.file;
}

bool read_in(const Cgroup& c, size_t length, const char* file, char* text, size_t bytes) {
  char path[600];
  KeptFile* f = join_path(path, c.folder, length, file) ? kept_file(path) : nullptr;
  return f && f->read(text, bytes);
}

uint64_t number_in(const Cgroup& c, size_t length, const char* file) {
  char text[64];
  if (!read_in(c, length, file, text, sizeof(text)) || text[0] < '0' || text[0] > '9') return kNotKnown;
  return strtoull(text, nullptr, 10);
}

constexpr size_t kLine = kCgroupLine;

bool find_in(bool version_2, Cgroup& out) {
  static KeptFile groups("/proc/self/cgroup"), mounts("/proc/self/mountinfo");
  char line[kLine], path[512];
  bool found = false;
  for (LineReader lines(groups); !found && lines.next(line, sizeof(line));) found = cgroup_path(line, version_2, path);
  if (!found) return false;
  for (LineReader lines(mounts); lines.next(line, sizeof(line));)
    if (find_at_mount(line, version_2, path, out)) return true;
  return false;
}

uint64_t limit_at(const Cgroup& c, size_t length) {
  uint64_t limit = number_in(c, length, c.version_2 ? "memory.max" : "memory.limit_in_bytes");
  return limit < kNoCgroupLimit ? limit : kNotKnown;
}

// "some avg10=1.23 …" as 123.
uint64_t parse_pressure(const char* text) {
  const char* p = strstr(text, "some avg10=");
  if (!p) return kNotKnown;
  char* rest;
  uint64_t whole = strtoull(p + 11, &rest, 10);
  if (*rest != '.' || !rest[1] || !rest[2]) return whole * 100;
  return whole * 100 + uint64_t(rest[1] - '0') * 10 + uint64_t(rest[2] - '0');
}
}  // namespace

bool find_cgroup(Cgroup& out) {
  Cgroup found{};
  if (!may_open()) return out.found;
  found.found = find_in(false, found) || find_in(true, found);
  if (strcmp(found.folder, out.folder) != 0) {
    for (uint32_t i = 0; i < kept_used; i++) kept[i].file.name(nullptr);
    kept_used = 0;
  }
  struct stat status;
  if (found.found && stat(found.folder, &status) == 0) found.inode = status.st_ino;
  out = found;
  return out.found;
}

void read_cgroup(const Cgroup& c, CgroupMemory& out) {
  size_t length = strlen(c.folder);
  char text[4096];
  out = {kNotKnown, kNotKnown, kNotKnown, kNotKnown, kNotKnown, kNotKnown};
  out.current = number_in(c, length, c.version_2 ? "memory.current" : "memory.usage_in_bytes");
  for (size_t n = length;; n--) {   // this one and those above
    uint64_t limit = n == length || c.folder[n] == '/' ? limit_at(c, n) : kNotKnown;
    if (limit < out.limit) out.limit = limit;
    if (n <= c.mount_length) break;
  }
  if (out.current != kNotKnown && read_in(c, length, "memory.stat", text, sizeof(text))) {
    uint64_t idle = keyed(text, c.version_2 ? "inactive_file" : "total_inactive_file");
    out.working_set = idle == kNotKnown ? kNotKnown : out.current > idle ? out.current - idle : 0;
  }
  if (read_in(c, length, c.version_2 ? "memory.events" : "memory.oom_control", text, sizeof(text))) {
    out.oom_kills = keyed(text, "oom_kill");
    if (c.version_2) out.max_events = keyed(text, "max");
  }
  if (!c.version_2) out.max_events = number_in(c, length, "memory.failcnt");
  if (c.version_2 && read_in(c, length, "memory.pressure", text, sizeof(text))) out.pressure = parse_pressure(text);
}

}  // namespace tidemark::platform
