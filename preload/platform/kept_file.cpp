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

bool KeptFile::open_file() {
  if (table_ != table) descriptor_ = -1;
  if (descriptor_ >= 0) return true;
  if (!opening || !path_) return false;
  table_ = table;
  descriptor_ = open(path_, O_RDONLY | O_CLOEXEC);
  return descriptor_ >= 0;
}

size_t KeptFile::read_at(uint64_t offset, char* buffer, size_t bytes) {
  if (!open_file()) return 0;
  ssize_t n;
  do n = pread(descriptor_, buffer, bytes, off_t(offset));
  while (n < 0 && errno == EINTR);
  return n > 0 ? size_t(n) : 0;
}

bool KeptFile::read(char* text, size_t bytes) {
  size_t total = 0;
  while (size_t n = total < bytes - 1 ? read_at(total, text + total, bytes - 1 - total) : 0) total += n;
  text[total] = 0;
  return total != 0;
}

bool LineReader::fill() {
  length_ = file_.read_at(offset_, buffer_, sizeof(buffer_));
  offset_ += length_;
  at_ = 0;
  return length_ != 0;
}

bool LineReader::next(char* line, size_t bytes) {
  size_t n = 0;
  for (;;) {
    if (at_ == length_ && !fill()) break;
    char c = buffer_[at_++];
    if (c == '\n') {
      line[n] = 0;
      return true;
    }
    if (n + 1 < bytes) line[n++] = c;
  }
  line[n] = 0;
  return n != 0;
}

}  // namespace tidemark::platform
