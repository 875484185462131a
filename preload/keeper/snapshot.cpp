#include "preload/keeper/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "preload/base/store.h"
#include "preload/keeper/monitor.h"
#include "preload/keeper/session.h"
#include "preload/platform/kept_file.h"
#include "preload/platform/procfs.h"

namespace tidemark::keeper {
namespace {

constexpr uint32_t kMaxCopies = 1000;

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
int create(char* path, size_t bytes, const char* name) {
  for (uint32_t k = 1; k <= kMaxCopies; k++) {
    int n = snprintf(path, bytes, "%s/%s.%d.%u.tide-snapshot", region_folder(), name, base::header().pid, k);
    if (n < 0 || size_t(n) >= bytes) return errno = ENAMETOOLONG, -1;
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd >= 0 || errno != EEXIST) return fd;
  }
  return errno = EEXIST, -1;
}

int fail(char* path, size_t bytes, int error, const char* what) {
  snprintf(path, bytes, "%s", what);
  return error;
}

bool fits(uint64_t bytes) {   // growing a file past the limit would be SIGXFSZ, which kills
  rlimit limit;
  return getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur >= bytes;
}

// Room first: while the program waits only pages of the file are filled.
int copy_frozen(int fd, uint64_t& used) {
  // A fork may be under way, or a thread may have lost its processor inside malloc.
  constexpr uint32_t kTries = 20;
  for (uint32_t i = 0; !freeze_program(); i++) {
    if (i == kTries) return EBUSY;
    usleep(20'000);
  }
  format::Header& h = base::header();
  used = h.used_pages * format::kPageBytes;
  h.snapshot_realtime_ns = platform::realtime_ns();
  bool done = write_all(fd, base::store.start, used, 0);
  int error = done ? 0 : errno;
  h.snapshot_realtime_ns = 0;
  thaw_program();
  return error;
}
}  // namespace

int snapshot(char* path, size_t bytes) {
  if (!platform::may_open() || monitor_is_confined()) return fail(path, bytes, EPERM, "the process is under a seccomp filter: no file may be opened there");
  char name[64];
  const format::TextRef& ref = base::header().name;
  size_t n = ref.length < sizeof(name) - 1 ? ref.length : sizeof(name) - 1;
  memcpy(name, base::store.start + ref.offset, n);
  name[n] = 0;
  uint64_t used = base::header().used_pages * format::kPageBytes, room = used + (1 << 20);
  if (room > base::store.bytes) room = base::store.bytes;
  if (!fits(room)) return fail(path, bytes, EFBIG, "the copy would be larger than RLIMIT_FSIZE (ulimit -f) of the process");
  int fd = create(path, bytes, name);
  if (fd < 0) return fail(path, bytes, errno, "the process cannot create a file in its region folder");
  int error = posix_fallocate(fd, 0, off_t(room));
  if (!error) error = copy_frozen(fd, used);
  if (!error && ftruncate(fd, off_t(used)) != 0) error = errno;
  close(fd);
  if (!error) return 0;
  unlink(path);
  return fail(path, bytes, error, error == EBUSY ? "a thread stayed inside the allocator; try again" : "the copy could not be written");
}

}  // namespace tidemark::keeper
