#include "preload/platform/kept_file.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

namespace tidemark::platform {
namespace {
constinit uint32_t table = 0;   // how many there were
constinit bool opening = false;
}  // namespace

void begin_kept_files(bool own) {
  table++;
  opening = own;
}
void stop_opening() { opening = false; }
bool may_open() { return opening; }

void KeptFile::name(const char* path) {
  if (descriptor_ >= 0 && table_ == table) close(descriptor_);
  descriptor_ = -1;
  path_ = path;
}

bool KeptFile::read(char* text, size_t bytes) {
  text[0] = 0;
  if (table_ != table) descriptor_ = -1;
  if (descriptor_ < 0) {
    if (!opening || !path_) return false;
    table_ = table;
    descriptor_ = open(path_, O_RDONLY | O_CLOEXEC);
    if (descriptor_ < 0) return false;
  }
  size_t total = 0;
  while (total < bytes - 1) {
    ssize_t n = pread(descriptor_, text + total, bytes - 1 - total, off_t(total));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    total += size_t(n);
  }
  text[total] = 0;
  return total != 0;
}

}  // namespace tidemark::platform
