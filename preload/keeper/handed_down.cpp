#include "preload/keeper/handed_down.h"

#include <dlfcn.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>

#include "preload/base/memory.h"
#include "preload/format/region.h"

namespace tidemark::keeper {
namespace {
constinit const char* own_name = nullptr;   // of our file, without folders; nullptr: we did not come by LD_PRELOAD
constinit const char* own_path = nullptr;

// Asks the kernel once a page.
class Readable {
 public:
  template <class T>
  T at(const T* p) {
    uintptr_t page = uintptr_t(p) & ~uintptr_t{format::kPageBytes - 1};
    if (page != known_ && !base::readable(reinterpret_cast<const void*>(uintptr_t(p) & ~uintptr_t{7}))) return T{};
    known_ = page;
    return *p;
  }

 private:
  uintptr_t known_ = 1;   // no page
};

// As ld.so takes it: the last one counts. nullptr: there is none.
const char* preload_list(char* const* environment) {
  Readable array, text;
  const char* found = nullptr;
  for (; environment && array.at(environment); environment++) {
    const char *p = *environment, *name = "LD_PRELOAD=";
    while (*name && text.at(p) == *name) p++, name++;
    if (!*name) found = p;
  }
  return found;
}

// Is `name` the file's name of one of the list's elements, which : or a space parts?
bool names(const char* list, const char* name) {
  Readable text;
  const char* rest = name;   // of the name, behind what this element has of it; nullptr: it is another
  for (;; list++) {
    char c = text.at(list);
    bool end = !c || c == ':' || c == ' ';
    if (end && rest && !*rest) return true;
    if (!c) return false;
    if (end || c == '/') rest = name;
    else rest = rest && *rest == c ? rest + 1 : nullptr;
  }
}
}  // namespace

void learn_how_we_came() {
  Dl_info own;
  if (!dladdr(reinterpret_cast<const void*>(&learn_how_we_came), &own) || !own.dli_fname) return;
  const char* slash = strrchr(own.dli_fname, '/');
  const char* name = slash ? slash + 1 : own.dli_fname;
  const char* list = preload_list(environ);
  if (list && names(list, name)) own_name = name, own_path = own.dli_fname;
}

bool library_is_there() { return !own_path || *own_path != '/' || access(own_path, R_OK) == 0; }

bool loses_preload(char* const* environment) {
  if (!own_name) return false;
  const char* list = preload_list(environment);
  return !list || !names(list, own_name);
}

}  // namespace tidemark::keeper
