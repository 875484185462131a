#include "preload/keeper/region_files.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include "preload/base/own_mappings.h"

namespace tidemark::keeper {
using namespace format;
namespace {

// Whose owner may be another user could be cut while it is mapped, or be held up by a lease.
bool is_trusted(const struct stat& s) { return S_ISREG(s.st_mode) && s.st_nlink <= 1 && (s.st_uid == geteuid() || s.st_uid == 0 || s.st_uid == getuid()); }

// The number between `end` and the point before it, which becomes the end. 0: there is none.
int32_t number_before(const char* name, const char*& end) {
  uint64_t number = 0, unit = 1;
  const char* p = end;
  for (; p != name && p[-1] >= '0' && p[-1] <= '9' && unit < 10'000'000'000; p--, unit *= 10) number += unit * uint64_t(p[-1] - '0');
  if (p == end || p == name || p[-1] != '.' || number > INT32_MAX) return 0;
  end = p - 1;
  return int32_t(number);
}
}  // namespace

int open_trusted(const char* path) {
  struct stat s;
  if (stat(path, &s) != 0 || !is_trusted(s)) return -1;   // not even opened: that would wait for a lease
  int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0 || (fstat(fd, &s) == 0 && is_trusted(s))) return fd;
  close(fd);
  return -1;
}

namespace {
void* map_first_page(int fd) {
  struct stat s;
  if (fstat(fd, &s) != 0 || s.st_size < off_t(sizeof(RunLedger))) return nullptr;
  void* p = base::own_mmap(nullptr, kPageBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  return p == MAP_FAILED ? nullptr : p;
}

template <class Map>
auto map_and_close(const char* path, Map map) {
  int fd = open_trusted(path);
  auto* page = fd < 0 ? nullptr : map(fd);
  if (fd >= 0) close(fd);
  return page;
}
}  // namespace

void* map_first_page(const char* path) {
  return map_and_close(path, [](int fd) { return map_first_page(fd); });
}

Header* map_header(const char* path) {
  return map_and_close(path, [](int fd) { return map_header(fd); });
}

Header* map_header(int fd) {
  auto* h = static_cast<Header*>(map_first_page(fd));
  if (h && memcmp(h->magic, kMagic, sizeof(kMagic)) == 0 && h->version == kVersion && !h->snapshot_realtime_ns) return h;
  if (h) unmap_page(h);
  return nullptr;
}

void unmap_page(void* page) { base::own_munmap(page, kPageBytes); }

Numbers numbers_in(const char* name) {
  size_t n = strlen(name);
  if (n < 6) return {0, 0};
  const char* end = name + n - 5;
  Numbers found{number_before(name, end), 0};
  if (found.last) found.before = number_before(name, end);
  return found;
}

}  // namespace tidemark::keeper
