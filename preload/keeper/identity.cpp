#include "preload/keeper/identity.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>

#include "preload/base/store.h"
#include "preload/heap/tracker.h"
#include "preload/keeper/region_file.h"
#include "preload/keeper/run.h"
#include "preload/keeper/session.h"
#include "preload/platform/procfs.h"

namespace tidemark::keeper {
using namespace format;
namespace {

TextRef text_of(const char* text) { return base::take_text(text, strlen(text)); }

TextRef link_text(const char* path) {
  static char buffer[4000];   // see fill_identity
  return base::take_text(buffer, platform::read_link(path, buffer, sizeof(buffer)));
}

// TIDEMARK_OPTIONS that say the same, but for those that have their standard value.
class OptionsText {
 public:
  void put(const char* key, uint64_t value, uint64_t standard, const char* unit) {
    if (value == standard) return;
    char number[24];
    platform::put_number(number, value);
    begin(key);
    put(number);
    put(unit);
  }
  void put(const char* key, const Text& value, const Text& standard, const char*) {
    if (strcmp(value.value, standard.value) == 0) return;
    begin(key);
    put(value.value);
  }
  void clear() { length_ = 0; }
  TextRef keep() const { return base::take_text(buffer_, length_); }

 private:
  void begin(const char* key) {
    if (length_) put(":");
    put(key);
    put("=");
  }
  void put(const char* s) {
    for (; *s && length_ < sizeof(buffer_); s++) buffer_[length_++] = *s;
  }
  char buffer_[4000];
  size_t length_ = 0;
};

constexpr const char* kUnit_Bool = "";
constexpr const char* kUnit_Count = "";
constexpr const char* kUnit_Size = "";
constexpr const char* kUnit_Millis = "ms";
constexpr const char* kUnit_Seconds = "ms";
constexpr const char* kUnit_Text = "";

TextRef options_text() {
  static Options standard;
  set_defaults(standard);
  static OptionsText text;   // see fill_identity
  text.clear();
#define X(type, name, default_value, help) text.put(#name, options.name, standard.name, kUnit_##type);
  TIDEMARK_OPTION_TABLE(X)
#undef X
  return text.keep();
}
}  // namespace

namespace {
constinit char arguments[4000]{};   // a thread with a small stack may be the one that makes the region; one at a time does
constinit size_t arguments_bytes = 0;
constinit uint64_t own_start = 0;
constinit uint8_t own_boot[16]{};
}  // namespace

void read_identity() {
  own_start = platform::process_start(0);
  platform::boot_id(own_boot);
  arguments_bytes = platform::read_file("/proc/self/cmdline", arguments, sizeof(arguments));
}

void fill_identity() {
  Header& h = base::header();
  static char name[64];
  region_name(name);
  h.pid = int32_t(syscall(SYS_getpid));
  if (!h.ppid) h.ppid = int32_t(getppid());
  h.uid = geteuid();
  h.gid = getegid();
  h.pid_start = own_start;
  h.pid_namespace = platform::pid_namespace();
  memcpy(h.boot_id, own_boot, sizeof(h.boot_id));
  h.run_id = run.id;
  h.heap_flags = (heap::foreign() ? uint32_t(kHeapForeign) : 0) | (heap::elsewhere() ? uint32_t(kHeapElsewhere) : 0);
  h.child_grace_ms = uint32_t(options.child_grace);
  h.name = text_of(name);
  if (!h.exe.length) h.exe = link_text("/proc/self/exe");
  h.cwd = link_text("/proc/self/cwd");
  h.cmdline = base::take_text(arguments, arguments_bytes);
  h.options = options_text();
  h.ledger_path = text_of(run.ledger_path);
}

void host_ledger(const char* path, uint64_t bytes) {
  RunLedger& l = base::header().ledger;
  l.run_id = run.id;
  l.limit_bytes = options.regions_max;
  l.used_bytes = bytes_before_run() + bytes;
  l.regions = 1;
  memcpy(l.magic, kLedgerMagic, sizeof(kLedgerMagic));
  if (path[0] == '/' && strlen(path) < sizeof(run.ledger_path)) {
    strcpy(run.ledger_path, path);
  } else if (size_t n = platform::read_link("/proc/self/cwd", run.ledger_path, sizeof(run.ledger_path) - 1);
             n && n + strlen(path) + 2 < sizeof(run.ledger_path)) {
    run.ledger_path[n] = '/';
    strcpy(run.ledger_path + n + 1, path);
  } else {
    run.ledger_path[0] = 0;
  }
  use_own_ledger();
  base::header().ledger_path = text_of(run.ledger_path);
}

}  // namespace tidemark::keeper
