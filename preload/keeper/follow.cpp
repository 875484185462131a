#include "preload/keeper/follow.h"

#include <cstring>

#include "preload/base/memory.h"
#include "preload/keeper/region_file.h"
#include "preload/keeper/run.h"
#include "preload/keeper/session.h"

namespace tidemark::keeper {
namespace {
constinit bool not_followed = false;

bool match(const char* pattern, const char* end, const char* name) {
  for (; pattern < end; pattern++, name++) {
    if (*pattern == '*') {
      for (;; name++) {
        if (match(pattern + 1, end, name)) return true;
        if (!*name) return false;
      }
    }
    if (!*name || (*pattern != '?' && *pattern != *name)) return false;
  }
  return !*name;
}
}  // namespace

bool matches(const char* list, const char* name) {
  while (*list) {
    const char* end = strchrnul(list, ',');
    if (match(list, end, name)) return true;
    list = *end ? end + 1 : end;
  }
  return false;
}

namespace {
bool follows_all(const char* follow) { return !*follow || strcmp(follow, "all") == 0; }
bool follows_none(const char* follow) { return strcmp(follow, "none") == 0; }
}  // namespace

bool followed(const char* follow) {
  if (follows_all(follow)) return true;
  if (follows_none(follow)) return false;
  char name[64];
  region_name(name);
  return matches(follow, name);
}

bool follows(const char* follow, const char* path) {
  if (follows_all(follow) || follows_none(follow)) return follows_all(follow);
  if (!base::readable(path)) return !path;
  const char* slash = strrchr(path, '/');
  return matches(follow, slash ? slash + 1 : path);
}

void note_not_followed() { not_followed = true; }
void tell_parent_if_not_followed() {
  if (not_followed) note_in_parent(format::kChildrenNotFollowed, region_folder());
  not_followed = false;
}

}  // namespace tidemark::keeper
