#include "analyzer/region/file_copy.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "analyzer/region/region.h"

namespace tidemark::region {

using namespace format;

namespace {

class File {
 public:
  explicit File(const std::string& path) {
    // O_NONBLOCK: a FIFO by that name must not hang the report.
    fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd_ < 0) throw ReadError(why_not_open(errno));
    struct stat status;
    if (fstat(fd_, &status) != 0) throw ReadError(fmt::format("cannot be examined: {}", std::strerror(errno)));
    if (S_ISDIR(status.st_mode)) throw ReadError("is a folder; give a region file in it");
    if (!S_ISREG(status.st_mode))
      throw ReadError("is not a regular file; give a region that libtidemark.so wrote (NAME.PID.tide)");
    bytes_ = uint64_t(status.st_size);
  }
  ~File() {
    if (fd_ >= 0) ::close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  uint64_t bytes() const { return bytes_; }

  // Reads up to `size` bytes; fewer at the end of the file.
  size_t read(std::byte* to, uint64_t offset, size_t size) const {
    size_t done = 0;
    while (done < size) {
      ssize_t got = pread(fd_, to + done, size - done, off_t(offset + done));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) throw ReadError(fmt::format("cannot be read: {}", std::strerror(errno)));
      if (got == 0) break;
      done += size_t(got);
    }
    return done;
  }

 private:
  static std::string why_not_open(int error) {
    if (error == ENOENT) return "no such file";
    if (error == EACCES || error == EPERM)
      return "permission denied; regions belong to the user of the recorded process (try sudo)";
    return fmt::format("cannot be opened: {}", std::strerror(error));
  }

  int fd_ = -1;
  uint64_t bytes_ = 0;
};

Header read_header(const File& file) {
  Header header{};
  size_t got = file.read(reinterpret_cast<std::byte*>(&header), 0, sizeof(header));
  check_identity(header, got);
  return header;
}

uint64_t used_bytes(const Header& header, uint64_t file_bytes) {
  uint64_t pages = std::min<uint64_t>(header.used_pages, kMaxRegionBytes / kPageBytes);
  return std::min(pages * kPageBytes, file_bytes);
}

// Reads what follows `copy` up to `size`.
void extend(const File& file, Bytes& copy, uint64_t size) {
  uint64_t before = copy.size();
  if (size <= before) return;
  copy.resize(size);
  copy.resize(before + file.read(copy.data() + before, before, size - before));
}

std::vector<PageKind> directory(const File& file, const Header& header, uint64_t pages) {
  std::vector<PageKind> kinds(pages);
  if (header.directory_offset > kMaxRegionBytes) return {};
  kinds.resize(file.read(reinterpret_cast<std::byte*>(kinds.data()), header.directory_offset, kinds.size()));
  return kinds;
}

// Reads again all pages but those of counters.
void refresh_but_counters(const File& file, Bytes& copy, const std::vector<PageKind>& kinds) {
  for (uint64_t page = 0; page < kinds.size() && (page + 1) * kPageBytes <= copy.size(); ++page) {
    if (kinds[page] == PageKind::kStacks || kinds[page] == PageKind::kShared) continue;
    file.read(copy.data() + page * kPageBytes, page * kPageBytes, kPageBytes);
  }
}

// Empties the stack pages from `first_page` on: their nodes may have come into use only after they were read.
void drop_stacks(Bytes& copy, uint64_t first_page, const std::vector<PageKind>& kinds) {
  for (uint64_t page = first_page; page < kinds.size() && (page + 1) * kPageBytes <= copy.size(); ++page)
    if (kinds[page] == PageKind::kStacks) std::memset(copy.data() + page * kPageBytes, 0, kPageBytes);
}

}  // namespace

Bytes copy_used_part(const std::string& path) {
  File file(path);
  Header first = read_header(file);
  Bytes copy;
  extend(file, copy, used_bytes(first, file.bytes()));
  if (copy.size() < sizeof(Header)) extend(file, copy, std::min<uint64_t>(file.bytes(), sizeof(Header)));
  if (Ending(first.ending) != Ending::kNone) return copy;

  // The process may be running. Records never move and are committed last, so pages read after the stacks hold all that these
  // refer to. Stacks on pages that came into use meanwhile are not in this report.
  uint64_t first_pages = copy.size() / kPageBytes;
  refresh_but_counters(file, copy, directory(file, first, first_pages));
  Header second = read_header(file);
  extend(file, copy, used_bytes(second, file.bytes()));
  drop_stacks(copy, first_pages, directory(file, second, copy.size() / kPageBytes));
  return copy;
}

}  // namespace tidemark::region
