#include "preload/platform/cgroup_text.h"

#include <unistd.h>

#include <cstdlib>
#include <cstring>

namespace tidemark::platform {
namespace {

// Whether "a,memory,b" up to `end` names the controller.
bool names_memory(const char* list, const char* end) {
  for (; list < end; list++) {
    size_t n = strcspn(list, ",:");
    if (n == 6 && strncmp(list, "memory", 6) == 0) return true;
    list += n;
  }
  return false;
}

// "ID PARENT DEV ROOT POINT OPTIONS … - TYPE SOURCE SUPEROPTIONS".
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
  return join_path(path, c.folder, length, c.version_2 ? "memory.current" : "memory.usage_in_bytes") && access(path, R_OK) == 0;
}
}  // namespace

bool join_path(char (&out)[600], const char* folder, size_t length, const char* file) {
  size_t n = strlen(file);
  if (length + n + 2 > sizeof(out)) return false;
  memcpy(out, folder, length);
  out[length] = '/';
  memcpy(out + length + 1, file, n + 1);
  return true;
}

uint64_t keyed(const char* text, const char* key) {
  size_t n = strlen(key);
  for (const char* line = text; line; line = strchr(line, '\n')) {
    if (*line == '\n') line++;
    if (strncmp(line, key, n) == 0 && line[n] == ' ') return strtoull(line + n + 1, nullptr, 10);
  }
  return UINT64_MAX;
}

bool cgroup_path(const char* line, bool version_2, char (&path)[512]) {
  const char* controllers = strchr(line, ':');
  const char* end = controllers ? strchr(++controllers, ':') : nullptr;
  if (!end || !(version_2 ? end == controllers : names_memory(controllers, end)) || strlen(end + 1) >= sizeof(path)) return false;
  strcpy(path, end + 1);
  return true;
}

bool find_at_mount(const char* line, bool version_2, const char* path, Cgroup& out) {
  Mount m;
  if (!parse_mount(line, version_2, m) || m.point_length >= sizeof(out.folder)) return false;
  out.version_2 = version_2;
  out.mount_length = uint32_t(m.point_length);
  memcpy(out.folder, m.point, m.point_length);
  out.folder[m.point_length] = 0;
  const char* below = path;
  if (m.root_length > 1 && strncmp(path, m.root, m.root_length) == 0 && (path[m.root_length] == '/' || !path[m.root_length])) below = path + m.root_length;
  if (below[0] == '/' && below[1] && m.point_length + strlen(below) < sizeof(out.folder)) strcpy(out.folder + m.point_length, below);
  if (has_files(out, strlen(out.folder))) return true;
  out.folder[m.point_length] = 0;   // a container with its own cgroup mounted as the root
  return has_files(out, m.point_length);
}

}  // namespace tidemark::platform
