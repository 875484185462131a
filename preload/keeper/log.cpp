#include "preload/keeper/log.h"

#include <dlfcn.h>

#include <cstring>

#include "preload/base/store.h"
#include "preload/format/warning_text.h"
#include "preload/keeper/monitor.h"
#include "preload/keeper/session.h"
#include "preload/log/log.h"
#include "preload/platform/kept_file.h"
#include "preload/platform/procfs.h"

namespace tidemark::keeper {
namespace {

constexpr char kLibrary[] = "libtidemark-log.so";

constinit TidemarkLogLine log_line = nullptr;

TidemarkLogLine find_line() {
  Dl_info self;
  char path[1024];
  if (!dladdr(reinterpret_cast<const void*>(&log_event), &self) || !self.dli_fname) return nullptr;
  const char* slash = strrchr(self.dli_fname, '/');
  size_t n = slash ? size_t(slash + 1 - self.dli_fname) : 0;
  if (n + sizeof(kLibrary) > sizeof(path)) return nullptr;
  memcpy(path, self.dli_fname, n);
  memcpy(path + n, kLibrary, sizeof(kLibrary));
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  return library ? reinterpret_cast<TidemarkLogLine>(dlsym(library, "tidemark_log_line")) : nullptr;
}
}  // namespace

void load_log() {
  if (options.log.value[0] && !log_line) log_line = find_line();
}

void log_event(const format::Event& event) {
  if (!options.log.value[0]) return;
  if (!platform::may_open() || monitor_is_confined()) return base::count(format::kLogFailures);
  load_log();   // asked for later
  char text[256], name[32];
  format::warning_text(event, text, sizeof(text));
  name[platform::read_file("/proc/self/comm", name, sizeof(name) - 1)] = 0;
  name[strcspn(name, "\n")] = 0;
  if (!log_line || log_line(options.log.value, options.log_size, name, text) != 0) base::count(format::kLogFailures);
}

}  // namespace tidemark::keeper
