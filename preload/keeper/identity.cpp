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
  char buffer[4000];
  return base::take_text(buffer, platform::read_link(path, buffer, sizeof(buffer)));
}

TextRef options_text() {
  char buffer[4000];
  size_t n = 0;
  auto put = [&](const char* s) {
    for (; *s && n + 1 < sizeof(buffer); s++) buffer[n++] = *s;
  };
  put("dir=");
  put(region_folder());
  char number[24];
  auto put_number = [&](const char* key, uint64_t value) {
    put(key);
    platform::put_number(number, value);
    put(number);
  };
  put_number(":region_size=", options.region_size);
  put_number(":child_region_size=", options.child_region_size);
  put_number(":regions_max=", options.regions_max);
  put_number(":child_grace=", options.child_grace);
  put_number(":child_grace_allocations=", options.child_grace_allocations);
  put_number(":check=", options.check);
  put(":follow=");
  put(options.follow.value);
  return base::take_text(buffer, n);
}
}  // namespace

void fill_identity() {
  Header& h = base::header();
  char name[64], arguments[4000];
  region_name(name);
  h.pid = int32_t(syscall(SYS_getpid));
  h.ppid = int32_t(getppid());
  h.uid = geteuid();
  h.gid = getegid();
  h.pid_start = platform::process_start(0);
  h.pid_namespace = platform::pid_namespace();
  platform::boot_id(h.boot_id);
  h.run_id = run.id;
  h.heap_flags = heap::foreign() ? uint32_t(kHeapForeign) : 0;
  h.child_grace_ms = uint32_t(options.child_grace);
  h.name = text_of(name);
  if (!h.exe.length) h.exe = link_text("/proc/self/exe");
  h.cwd = link_text("/proc/self/cwd");
  h.cmdline = base::take_text(arguments, platform::read_file("/proc/self/cmdline", arguments, sizeof(arguments)));
  h.options = options_text();
  h.ledger_path = text_of(run.ledger_path);
}

void host_ledger(const char* path, uint64_t bytes) {
  RunLedger& l = base::header().ledger;
  l.run_id = run.id;
  l.limit_bytes = options.regions_max;
  l.used_bytes = bytes;
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
  use_ledger(&l);
  base::header().ledger_path = text_of(run.ledger_path);
}

}  // namespace tidemark::keeper
