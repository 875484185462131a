#include "preload/base/memory.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace tidemark::base {
namespace {
void* map(size_t bytes, int protection) {
  int saved = errno;
  void* p = mmap(nullptr, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  errno = saved;
  return p == MAP_FAILED ? nullptr : p;
}
}  // namespace

void* map_private(size_t bytes) { return map(bytes, PROT_READ | PROT_WRITE); }
void* reserve(size_t bytes) { return map(bytes, PROT_NONE); }

bool open_memory(void* start, size_t bytes) {
  int saved = errno;
  int result = mprotect(start, bytes, PROT_READ | PROT_WRITE);
  errno = saved;
  return result == 0;
}

void unmap(void* start, size_t bytes) {
  int saved = errno;
  munmap(start, bytes);
  errno = saved;
}

bool readable(const void* a) {
  int saved = errno;
  syscall(SYS_rt_sigprocmask, ~0, a, nullptr, 8);
  bool yes = errno != EFAULT;
  errno = saved;
  return yes;
}

}  // namespace tidemark::base
