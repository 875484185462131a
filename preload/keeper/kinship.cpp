#include "preload/keeper/kinship.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstring>

#include "preload/keeper/region_files.h"
#include "preload/platform/procfs.h"

namespace tidemark::keeper {
using namespace format;
namespace {

constexpr uint32_t kMost = 8;

// Nearest first. Not asked for before a region is seen in the folder: most programs that begin a run find none there.
struct Ancestors {
  uint32_t count;
  int32_t pid[kMost];
  uint64_t start[kMost];

  void learn() {
    count = 0;
    platform::Kin kin{int32_t(getppid()), 0};   // 0: in another pid namespace
    for (int32_t p = kin.parent; count < kMost && p > 0 && platform::kin_of(p, kin); p = kin.parent) {
      pid[count] = p;
      start[count++] = kin.start;
    }
  }
  uint32_t rank_of(const char* name) const {
    Numbers numbers = numbers_in(name);
    uint32_t i = 0;
    while (i < count && !numbers.has(pid[i])) i++;
    return i;
  }
};

// Pids are used again, the first ones by each container and after each boot.
bool is_of(const Header& h, int32_t pid, uint64_t start) {
  uint8_t boot[16];
  return h.pid == pid && h.pid_start == start && start && !h.ending && h.run_id && h.pid_namespace == platform::pid_namespace() && platform::boot_id(boot) &&
         memcmp(h.boot_id, boot, sizeof(boot)) == 0;
}

// As the ancestor's region names it: the launcher's memory file, or the region that hosts it.
void read_ledger_path(const char* path, const TextRef& text, char* out, size_t room) {
  int fd = text.length && text.length < room ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY) : -1;
  bool whole = fd >= 0 && pread(fd, out, text.length, off_t(text.offset)) == ssize_t(text.length);
  out[whole ? text.length : 0] = 0;
  if (fd >= 0) close(fd);
}
}  // namespace

bool join_run_of_ancestor(const char* dir, Run& run) {
  static Ancestors ancestors;   // see fill_identity: the stack may be small
  bool learned = false;
  uint32_t nearest = kMost;
  int64_t started = 0;
  for_each_region_file(dir, [&](const char* path, const char* name) {
    if (!learned) ancestors.learn(), learned = true;
    uint32_t rank = ancestors.rank_of(name);
    if (rank >= ancestors.count || rank > nearest) return;
    Header* h = map_header(path);
    if (!h) return;
    // Of several, the newest image's. A name with a pid and another number may be that of either.
    for (uint32_t i = rank; i < ancestors.count && i <= nearest; i++) {
      if (!is_of(*h, ancestors.pid[i], ancestors.start[i]) || (i == nearest && h->started_monotonic_ns <= started)) continue;
      nearest = i;
      started = h->started_monotonic_ns;
      run.id = h->run_id;
      read_ledger_path(path, h->ledger_path, run.ledger_path, sizeof(run.ledger_path));
    }
    unmap_page(h);
  });
  run.joined = nearest < kMost;
  return run.joined;
}

}  // namespace tidemark::keeper
