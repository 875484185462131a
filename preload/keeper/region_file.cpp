#include "preload/keeper/region_file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cstring>

#include "preload/base/own_mappings.h"
#include "preload/platform/cgroup_room.h"
#include "preload/platform/procfs.h"

namespace tidemark::keeper {
using format::Refusal;
namespace {

constexpr uint32_t kMaxTaken = 10000;
constinit RegionFile file{};

RegionFile& refuse(Refusal reason, int error) {
  file.reason = reason;
  file.error = error;
  return file;
}

// posix_fallocate, which writes where the file system can't allocate; a signal may interrupt it.
int allocate_all(int fd, uint64_t bytes) {
  int error;
  do error = posix_fallocate(fd, 0, off_t(bytes));
  while (error == EINTR);
  return error;
}

void put_path(const char* dir, const char* name, int32_t pid, uint32_t k) {
  size_t n = strlen(dir), m = strlen(name);
  if (n > 1200) n = 1200;   // then the open fails, and says so
  char* p = file.path;
  memcpy(p, dir, n);
  p += n;
  *p++ = '/';
  memcpy(p, name, m);
  p += m;
  *p++ = '.';
  p = platform::put_number(p, uint64_t(pid));
  if (k > 1) {
    *p++ = '.';
    p = platform::put_number(p, k);
  }
  memcpy(p, ".tide", 6);
}

// The named way, for file systems without O_TMPFILE.
int open_named() {
  for (uint32_t k = 1; k <= kMaxTaken; k++) {
    put_path(file.dir, file.name, file.pid, k);
    int fd = open(file.path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd >= 0 || errno != EEXIST) return fd;
  }
  return -1;
}

int open_unnamed() { return open(file.dir, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600); }

// On btrfs a page that is written to again is put elsewhere, and when the disk is full that is a SIGBUS. Not so in a file without copy on write, which is
// asked for while it is empty; but until Linux 6.16 even its pages were not written to, where no room could be found elsewhere (commit 6599716de2d6).
bool stays_where_it_is(int fd) {
  struct statfs s;
  int flags = 0;
  if (fstatfs(fd, &s) != 0 || s.f_type != BTRFS_SUPER_MAGIC) return true;
  if (ioctl(fd, FS_IOC_GETFLAGS, &flags) != 0) return false;
  flags |= FS_NOCOW_FL;
  return ioctl(fd, FS_IOC_SETFLAGS, &flags) == 0 && platform::kernel_is_at_least(6, 16);
}

// There the whole file counts against the cgroup's limit from the moment it is made, and what lies on a disk does only as far as it is used and not given up.
bool lies_in_memory(int fd) {
  struct statfs s;
  return fstatfs(fd, &s) == 0 && (s.f_type == TMPFS_MAGIC || s.f_type == RAMFS_MAGIC);
}

uint64_t inode_of(int fd) {
  struct stat s;
  return fstat(fd, &s) == 0 ? s.st_ino : 0;
}

void drop(int fd, bool named) {
  if (named) unlink(file.path);
  close(fd);
}
}  // namespace

bool file_may_have(uint64_t bytes) {
  rlimit limit;
  return getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur >= bytes;
}

RegionFile& create_region_file(const char* dir, const char* name, int32_t pid, uint64_t bytes) {
  file = {};
  file.bytes = bytes;
  file.pid = pid;
  file.fd = -1;
  strncpy(file.dir, dir, sizeof(file.dir) - 1);
  strncpy(file.name, name, sizeof(file.name) - 1);
  strcpy(file.path, file.dir);
  if (!file_may_have(bytes)) return refuse(Refusal::kFileSizeLimit, EFBIG);
  if (mkdir(dir, 0700) == 0) chmod(dir, 0700);   // whatever the program's umask takes away
  else if (errno != EEXIST && errno != EROFS && errno != EACCES) return refuse(Refusal::kOpenFolder, errno);
  int fd = open_unnamed();
  bool named = fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL);
  if (named) fd = open_named();
  if (fd < 0) {
    int error = errno;
    strcpy(file.path, file.dir);
    return refuse(error == ENOENT || error == ENOTDIR ? Refusal::kOpenFolder : Refusal::kCreateFile, error);
  }
  fchmod(fd, 0600);
  if (!stays_where_it_is(fd)) {
    drop(fd, named);
    return refuse(Refusal::kCopyOnWrite, 0);
  }
  file.in_memory = lies_in_memory(fd);
  if (file.in_memory && !platform::cgroup_has_room(bytes)) {   // the OOM killer would end the program
    drop(fd, named);
    return refuse(Refusal::kOverCgroupLimit, 0);
  }
  int error = allocate_all(fd, bytes);
  if (error) {
    drop(fd, named);
    return refuse(Refusal::kAllocateFile, error);
  }
  void* p = base::own_mmap(nullptr, bytes, PROT_NONE, MAP_SHARED, fd, 0);
  if (p == MAP_FAILED) {
    error = errno;
    drop(fd, named);
    return refuse(Refusal::kMapFile, error);
  }
  // A fault would else read ahead megabytes of what was never written: 3 to 10 ms for the first store (ext4, Linux 6.18).
  madvise(p, bytes, MADV_RANDOM);
  if (named) close(fd);
  else file.fd = fd, file.inode = inode_of(fd);
  file.memory = static_cast<char*>(p);
  return file;
}

namespace {
constexpr char kOwnFiles[] = "/proc/thread-self/fd/";   // not /proc/self: its fd folder is empty once the main thread has ended
bool proc_is_there() { return access(kOwnFiles, F_OK) == 0; }

// Gives what is open there the name. Without /proc, as behind a chroot, by the descriptor itself, for which the process must have the credentials
// it was opened with (since Linux 6.10), or CAP_DAC_READ_SEARCH.
bool link_open_file(int fd, const char* path) {
  char self[48]{};
  memcpy(self, kOwnFiles, sizeof(kOwnFiles));
  platform::put_number(self + sizeof(kOwnFiles) - 1, uint64_t(fd));
  if (linkat(AT_FDCWD, self, AT_FDCWD, path, AT_SYMLINK_FOLLOW) == 0) return true;
  int error = errno;
  if (error == ENOENT && !proc_is_there() && linkat(fd, "", AT_FDCWD, path, AT_EMPTY_PATH) == 0) return true;
  if (errno != EEXIST) errno = error;   // the folder is there: the file was made in it
  return false;
}
}  // namespace

bool publish_region_file(RegionFile& f) {
  if (f.fd < 0) return true;
  if (inode_of(f.fd) != f.inode) {   // the program closed it, and may have opened something else there
    f.reason = Refusal::kCreateFile;
    f.error = EBADF;
    f.fd = -1;
    f.path[0] = 0;
    return false;
  }
  bool done = false;
  for (uint32_t k = 1; k <= kMaxTaken && !done; k++) {
    put_path(f.dir, f.name, f.pid, k);
    done = link_open_file(f.fd, f.path);
    if (!done && errno != EEXIST) break;
  }
  f.error = done ? 0 : errno;
  if (!done) f.reason = f.error == ENOENT && !proc_is_there() ? Refusal::kNoProc : Refusal::kCreateFile;
  close(f.fd);   // a daemon that closes all its descriptors can't take it from us
  f.fd = -1;
  return done;
}

void discard_region_file(RegionFile& f) {
  base::own_munmap(f.memory, f.bytes);
  if (f.fd >= 0) close(f.fd);
  else if (f.path[0]) unlink(f.path);
  f.memory = nullptr;
}

void region_name(char* out) {
  // The path that was executed, not the file behind its links: redis-server, not redis-check-rdb. But /proc/self/exe and /dev/fd/N
  // name nothing.
  static char path[4096];   // see fill_identity
  const auto* executed = reinterpret_cast<const char*>(getauxval(AT_EXECFN));
  size_t n = executed && strncmp(executed, "/dev/fd/", 8) != 0 && strncmp(executed, "/proc/", 6) != 0 ? strnlen(executed, sizeof(path) - 1) : 0, begin = 0;
  if (n) memcpy(path, executed, n);
  else n = platform::read_link("/proc/self/exe", path, sizeof(path) - 1);
  path[n] = 0;
  for (size_t i = 0; i < n; i++)
    if (path[i] == '/') begin = i + 1;
  size_t m = 0;
  for (const char* p = path + begin; *p && m < 60; p++) {
    bool fit = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') || strchr("+-_.", *p);
    out[m++] = fit ? *p : '_';
  }
  if (!m) out[m++] = 'x';
  out[m] = 0;
}

}  // namespace tidemark::keeper
