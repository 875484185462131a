#include "preload/platform/cgroup.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "preload/platform/kept_file.h"
#include "preload/platform/usage.h"

namespace tidemark::platform {
namespace {

constexpr uint64_t kNoLimit = uint64_t{1} << 60;   // version 1 writes LONG_MAX rounded down to pages

// `out` becomes FOLDER/FILE; false: too long.
bool join(char (&out)[600], const char* folder, size_t length, const char* file) {
  size_t n = strlen(file);
  if (length + n + 2 > sizeof(out)) return false;
  memcpy(out, folder, length);
  out[length] = '/';
  memcpy(out + length + 1, file, n + 1);
  return true;
}

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
  KeptFile* f = join(path, c.folder, length, file) ? kept_file(path) : nullptr;
  return f && f->read(text, bytes);
}

uint64_t number_in(const Cgroup& c, size_t length, const char* file) {
  char text[64];
  if (!read_in(c, length, file, text, sizeof(text)) || text[0] < '0' || text[0] > '9') return kNotKnown;
  return strtoull(text, nullptr, 10);
}

// The number behind "KEY " at the start of a line.
uint64_t keyed(const char* text, const char* key) {
  size_t n = strlen(key);
  for (const char* line = text; line; line = strchr(line, '\n')) {
    if (*line == '\n') line++;
    if (strncmp(line, key, n) == 0 && line[n] == ' ') return strtoull(line + n + 1, nullptr, 10);
  }
  return kNotKnown;
}

// Whether "a,memory,b" up to `end` names the controller.
bool names_memory(const char* list, const char* end) {
  for (; list < end; list++) {
    size_t n = strcspn(list, ",:");
    if (n == 6 && strncmp(list, "memory", 6) == 0) return true;
    list += n;
  }
  return false;
}

constexpr size_t kLine = 4096 + 512;   // a path, and more

// The path that a line of /proc/self/cgroup gives: "N:memory:PATH" or "0::PATH".
bool path_in_hierarchy(bool version_2, char (&path)[512]) {
  static KeptFile file("/proc/self/cgroup");
  char line[kLine];
  for (LineReader lines(file); lines.next(line, sizeof(line));) {
    const char* controllers = strchr(line, ':');
    const char* end = controllers ? strchr(++controllers, ':') : nullptr;
    if (!end || !(version_2 ? end == controllers : names_memory(controllers, end))) continue;
    if (strlen(end + 1) >= sizeof(path)) return false;
    strcpy(path, end + 1);
    return true;
  }
  return false;
}

// One line of /proc/self/mountinfo: "ID PARENT DEV ROOT POINT OPTIONS … - TYPE SOURCE SUPEROPTIONS".
struct Mount {
  const char *root, *point;
  size_t root_length, point_length;
};
bool parse_mount(const char* line, bool version_2, Mount& m) {
  const char* type = strstr(line, " - ");
  if (!type) return false;
  type += 3;
  if (version_2 ? strncmp(type, "cgroup2 ", 8) != 0 : strncmp(type, "cgroup ", 7) != 0 || !strstr(type, "memory")) return false;
  const char* p = line;
  for (int field = 0; field < 3; field++) {
    p = strchr(p, ' ');
    if (!p) return false;
    p++;
  }
  m.root = p;
  m.root_length = strcspn(p, " ");
  m.point = p + m.root_length + 1;
  m.point_length = strcspn(m.point, " ");
  return true;
}

bool has_files(const Cgroup& c, size_t length) {
  char path[600];
  return join(path, c.folder, length, c.version_2 ? "memory.current" : "memory.usage_in_bytes") && access(path, R_OK) == 0;
}

bool find_in(bool version_2, Cgroup& out) {
  char path[512];
  if (!path_in_hierarchy(version_2, path)) return false;
  static KeptFile mounts("/proc/self/mountinfo");
  char line[kLine];
  for (LineReader lines(mounts); lines.next(line, sizeof(line));) {
    Mount m;
    if (!parse_mount(line, version_2, m) || m.point_length >= sizeof(out.folder)) continue;
    out.version_2 = version_2;
    out.mount_length = uint32_t(m.point_length);
    memcpy(out.folder, m.point, m.point_length);
    out.folder[m.point_length] = 0;
    const char* below = path;
    if (m.root_length > 1 && strncmp(path, m.root, m.root_length) == 0) below = path + m.root_length;
    if (below[0] == '/' && below[1] && m.point_length + strlen(below) < sizeof(out.folder)) strcpy(out.folder + m.point_length, below);
    if (has_files(out, strlen(out.folder))) return true;
    out.folder[m.point_length] = 0;   // a container with its own cgroup mounted as the root
    if (has_files(out, m.point_length)) return true;
  }
  return false;
}

uint64_t limit_at(const Cgroup& c, size_t length) {
  uint64_t limit = number_in(c, length, c.version_2 ? "memory.max" : "memory.limit_in_bytes");
  return limit < kNoLimit ? limit : kNotKnown;
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
