#include "analyzer/launch/region_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

namespace tidemark::launch {
namespace {

// A folder that others may write to holds what they like: a link, a pipe, a file with a second name.
bool is_plain_file(int fd) {
  struct stat info;
  return fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_nlink == 1;
}

Descriptor open_plain(int folder, const char* name) {
  constexpr int kFlags = O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
  Descriptor file(openat(folder, name, O_RDWR | kFlags));
  if (!file && (errno == EACCES || errno == EROFS || errno == EPERM)) file = Descriptor(openat(folder, name, O_RDONLY | kFlags));
  return file && is_plain_file(file.get()) ? std::move(file) : Descriptor();
}

// A snapshot beside it is no process's region.
bool is_plausible(const format::Header& header) {
  return header.snapshot_realtime_ns == 0 && header.version == format::kVersion && header.header_bytes == sizeof(format::Header) &&
         header.endian == format::kEndianMark && header.page_bytes == format::kPageBytes &&
         header.region_bytes >= format::kMinRegionBytes && header.region_bytes <= format::kMaxRegionBytes &&
         header.used_pages >= 1 && header.used_pages <= header.region_bytes / format::kPageBytes;
}

// Against processes of the run that do the same when they find no room (preload/keeper/run_room): until the file is closed. They are done at once; one that
// is stopped meanwhile is not waited for.
void lock(int fd) {
  struct flock whole {};
  whole.l_type = F_WRLCK;
  whole.l_whence = SEEK_SET;
  constexpr int kTries = 100;
  for (int i = 0; i < kTries && fcntl(fd, F_OFD_SETLK, &whole) != 0 && (errno == EAGAIN || errno == EACCES); i++) usleep(1000);
}

template <typename Word>
bool put(int fd, size_t offset, Word word) {
  return pwrite(fd, &word, sizeof word, off_t(offset)) == sizeof word;
}

}  // namespace

RegionFile::Verdict RegionFile::open(int folder, const std::string& name, uint64_t run_id, std::optional<RegionFile>& result) {
  Descriptor file = open_plain(folder, name.c_str());
  if (!file) return Verdict::kForeign;
  RegionFile region(std::move(file), name, run_id);
  Verdict verdict = region.read_header();
  if (verdict == Verdict::kOurs) result.emplace(std::move(region));
  return verdict;
}

RegionFile::Verdict RegionFile::read_header() {
  ssize_t got = pread(file_.get(), &header_, sizeof header_, 0);
  static constexpr char kNothing[sizeof header_.magic] = {};
  if (got == 0 || (got == sizeof header_ && memcmp(header_.magic, kNothing, sizeof kNothing) == 0)) return Verdict::kUnfinished;
  if (got != sizeof header_ || memcmp(header_.magic, format::kMagic, sizeof header_.magic) != 0) return Verdict::kForeign;
  return is_plausible(header_) && header_.run_id == run_id_ ? Verdict::kOurs : Verdict::kForeign;
}

bool RegionFile::reload() { return read_header() == Verdict::kOurs; }

uint64_t RegionFile::file_bytes() const {
  struct stat info;
  return fstat(file_.get(), &info) == 0 ? uint64_t(info.st_size) : 0;
}

bool RegionFile::note_ending(int wait_status, int64_t realtime_ns) {
  using format::Ending;
  using format::Header;
  if (!reload()) return false;
  auto present = Ending(header_.ending);
  bool signaled = WIFSIGNALED(wait_status);
  if (present != Ending::kNone && !(signaled && present == Ending::kExited)) return true;
  int fd = file_.get();
  bool written = put(fd, offsetof(Header, ending_by_launcher), uint32_t{1}) &&
                 put(fd, offsetof(Header, ended_realtime_ns), realtime_ns) &&
                 (signaled ? put(fd, offsetof(Header, signal), int32_t{WTERMSIG(wait_status)})
                           : put(fd, offsetof(Header, exit_status), int32_t{WEXITSTATUS(wait_status)})) &&
                 put(fd, offsetof(Header, ending), uint32_t(signaled ? Ending::kSignaled : Ending::kExited));
  return reload() && written;
}

uint64_t RegionFile::give_back_tail() {
  lock(file_.get());
  if (!reload()) return 0;
  uint64_t before = file_bytes(), used = header_.used_pages * format::kPageBytes;
  if (used >= before || ftruncate(file_.get(), off_t(used)) != 0) return 0;
  uint64_t booked = std::min(header_.booked_bytes, before);  // less than the file has, where the process gave back what it could
  return booked > used ? booked - used : 0;
}

}  // namespace tidemark::launch
