#include "preload/keeper/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "preload/base/store.h"
#include "preload/keeper/monitor.h"
#include "preload/keeper/region_file.h"
#include "preload/keeper/session.h"
#include "preload/platform/kept_file.h"
#include "preload/platform/procfs.h"

namespace tidemark::keeper {
namespace {

constexpr uint32_t kMaxCopies = 1000;
constexpr uint64_t kGrowth = 1 << 20;   // by which the region may grow until the program is frozen

bool write_all(int fd, const char* from, size_t bytes, off_t at) {
  while (bytes) {
    ssize_t n = pwrite(fd, from, bytes, at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    from += n, at += n, bytes -= size_t(n);
  }
  return true;
}

// FOLDER/NAME.PID.K.tide-snapshot: not *.tide, so that nobody takes it for the region of a process.
struct Copy {
  char path[kTextOption + 128];
  int fd;
};
Copy create() {
  Copy copy;
  const format::TextRef& name = base::header().name;
  for (uint32_t k = 1; k <= kMaxCopies; k++) {
    snprintf(copy.path, sizeof(copy.path), "%s/%.*s.%d.%u.tide-snapshot", region_folder(), int(name.length), base::store.start + name.offset,
             base::header().pid, k);
    copy.fd = open(copy.path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (copy.fd >= 0 || errno != EEXIST) break;
  }
  if (copy.fd >= 0) fchmod(copy.fd, 0600);   // whatever the program's umask takes away
  return copy;
}

int say(char* text, size_t bytes, int error, const char* what) {
  snprintf(text, bytes, "%s", what);
  return error;
}

// Room first: while the program waits only pages of the file are filled.
int copy_frozen(int fd, uint64_t room, uint64_t& used) {
  // A fork may be under way, or a thread may have lost its processor inside malloc.
  constexpr uint32_t kTries = 20;
  for (uint32_t i = 0; !freeze_program(); i++) {
    if (i == kTries) return EBUSY;
    usleep(100'000);   // five times as long as that took
  }
  used = base::header().used_pages * format::kPageBytes;
  int error = used > room ? EAGAIN : 0;
  int64_t now = platform::realtime_ns();   // in the copy alone: the process may be killed at this moment
  if (!error && !write_all(fd, base::store.start, used, 0)) error = errno;
  if (!error && !write_all(fd, reinterpret_cast<const char*>(&now), sizeof(now), offsetof(format::Header, snapshot_realtime_ns))) error = errno;
  thaw_program();
  return error;
}
}  // namespace

int snapshot(char* text, size_t bytes) {
  if (!platform::may_open() || monitor_is_confined()) return say(text, bytes, EPERM, "the process is under a seccomp filter: no file may be opened there");
  uint64_t used = base::header().used_pages * format::kPageBytes, room = std::min(used + kGrowth, base::store.bytes);
  if (!file_may_have(room)) return say(text, bytes, EFBIG, "the copy would be larger than RLIMIT_FSIZE (ulimit -f) of the process");
  Copy copy = create();
  if (copy.fd < 0) return say(text, bytes, errno, "the process cannot create a file in its region folder");
  int error = posix_fallocate(copy.fd, 0, off_t(room));
  if (!error) error = copy_frozen(copy.fd, room, used);
  if (!error && ftruncate(copy.fd, off_t(used)) != 0) error = errno;
  close(copy.fd);
  if (!error) return say(text, bytes, 0, strrchr(copy.path, '/') + 1);
  unlink(copy.path);
  return say(text, bytes, error, error == EBUSY ? "a thread stayed inside the allocator; try again" : "the copy could not be written");
}

}  // namespace tidemark::keeper
