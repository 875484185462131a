#include "preload/platform/mappings.h"

#include <cstdlib>
#include <cstring>

#include "preload/platform/kept_file.h"

namespace tidemark::platform {
namespace {

constinit KeptFile smaps("/proc/thread-self/smaps");

// "START-END PERMS OFFSET DEV INODE   PATH"; false: a line of another kind.
bool parse_head(char* line, Mapping& m) {
  char* rest;
  m.start = strtoull(line, &rest, 16);
  if (rest == line || *rest != '-') return false;
  m.end = strtoull(rest + 1, &rest, 16);
  if (*rest != ' ') return false;
  for (int field = 0; field < 4 && rest; field++) rest = strchr(rest + 1, ' ');
  m.path = rest ? rest + strspn(rest, " ") : "";
  m.rss = m.pss = 0;
  return true;
}
}  // namespace

bool for_each_mapping(void (*visit)(void*, const Mapping&), void* argument) {
  constexpr size_t kPathMax = 4096 + 128;
  char line[kPathMax], path[kPathMax];
  Mapping m{};
  bool have = false, any = false;
  LineReader reader(smaps);
  while (reader.next(line, sizeof(line))) {
    if (strncmp(line, "Rss:", 4) == 0) {
      if (have) m.rss = strtoull(line + 4, nullptr, 10) * 1024;
    } else if (strncmp(line, "Pss:", 4) == 0) {
      if (have) m.pss = strtoull(line + 4, nullptr, 10) * 1024;
    } else if (line[0] >= 'a' || (line[0] >= '0' && line[0] <= '9')) {   // keys begin with a capital letter
      if (have) visit(argument, m);
      have = parse_head(line, m);
      strcpy(path, have ? m.path : "");
      m.path = path;
      any |= have;
    }
  }
  if (have) visit(argument, m);
  return any;
}

}  // namespace tidemark::platform
