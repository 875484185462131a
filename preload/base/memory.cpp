#include "preload/base/memory.h"

#include <errno.h>
#include <stdint.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cstring>

#include "preload/base/own_mappings.h"
#include "preload/base/ranges.h"
#include "preload/base/spin_lock.h"

namespace tidemark::base {
namespace {
constexpr size_t kPage = 4096, kTablesBytes = 16 << 10, kSmall = 4096, kHugePage = 2 << 20;
constinit SpinLock tables_lock;
constinit char *tables = nullptr, *tables_end = nullptr;

void* map(size_t bytes, int protection) {
  int saved = errno;
  void* p = own_mmap(nullptr, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  errno = saved;
  if (p == MAP_FAILED) return nullptr;
  note_mapping(Owner::kTidemark, p, bytes);
  return p;
}

// Where a huge page may begin. What is mapped beside it for that goes back: under mlockall(MCL_FUTURE) it would be resident.
char* map_huge(size_t bytes) {
  bytes = (bytes + kPage - 1) & ~(kPage - 1);
  auto* start = static_cast<char*>(map_private(bytes + kHugePage));
  if (!start) return nullptr;
  size_t before = -reinterpret_cast<uintptr_t>(start) & (kHugePage - 1);
  if (before) unmap(start, before);
  unmap(start + before + bytes, kHugePage - before);
  int saved = errno;
  madvise(start + before, bytes, MADV_HUGEPAGE);
  errno = saved;
  return start + before;
}

// A hash table: soon touched all over, one line here and one there. In pages of 2 MiB, where the kernel gives them, it waits less for where these are.
void* map_table(size_t bytes) {
  void* p = bytes >= kHugePage ? map_huge(bytes) : map_private(bytes);
  if (p) populate(p, bytes);
  return p;
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
  note_unmapping(start, bytes);
  own_munmap(start, bytes);
  errno = saved;
}

void populate(void* start, size_t bytes) {
#ifdef MADV_POPULATE_WRITE   // Linux 5.14
  int saved = errno;
  madvise(start, bytes, MADV_POPULATE_WRITE);
  errno = saved;
#endif
}

void populate_file(void* start, size_t bytes) {
  int saved = errno;
  madvise(start, bytes, MADV_WILLNEED);
  errno = saved;
  populate(start, bytes);
}

void* small_table(size_t bytes) {
  bytes = (bytes + 63) & ~size_t{63};
  if (bytes > kSmall) return map_table(bytes);
  SpinGuard guard(tables_lock);
  if (size_t(tables_end - tables) < bytes) {
    tables = static_cast<char*>(map_private(kTablesBytes));
    tables_end = tables ? tables + kTablesBytes : nullptr;
    if (!tables) return nullptr;
    populate(tables, kTablesBytes);
  }
  char* p = tables;
  tables += bytes;
  return p;
}

void discard_table(void* table, size_t bytes) {
  if (bytes <= kSmall) return;   // others may lie in its pages
  int saved = errno;
  auto start = (reinterpret_cast<uintptr_t>(table) + kPage) & ~(kPage - 1), end = (reinterpret_cast<uintptr_t>(table) + bytes + kPage - 1) & ~(kPage - 1);
  madvise(reinterpret_cast<void*>(start), end - start, MADV_DONTNEED);
  errno = saved;
}

void forget_small_tables() {
  tables_lock.reset();
  tables = tables_end = nullptr;
}

bool readable(const void* a) {
  if (!a) return false;   // to the kernel that is no set at all
  int saved = errno;
  syscall(SYS_rt_sigprocmask, ~0, a, nullptr, 8);
  bool yes = errno != EFAULT;
  errno = saved;
  return yes;
}

namespace {
constinit std::atomic<bool> kernel_copies_allowed{false};
constinit std::atomic<uint32_t> kernel_copies_forbidden{0};

enum class Copied { kYes, kNo, kRefused };
Copied copy_by_kernel(void* out, const void* a, size_t bytes) {
  iovec to{out, bytes}, from{const_cast<void*>(a), bytes};
  int saved = errno;
  auto n = syscall(SYS_process_vm_readv, syscall(SYS_gettid), &to, 1, &from, 1, 0);
  Copied copied = n == long(bytes) ? Copied::kYes : n >= 0 || errno == EFAULT ? Copied::kNo : Copied::kRefused;
  errno = saved;
  return copied;
}
}  // namespace

void allow_kernel_copies() { kernel_copies_allowed.store(true); }
void forbid_kernel_copies() { kernel_copies_forbidden.fetch_add(1); }
void permit_kernel_copies() { kernel_copies_forbidden.fetch_sub(1); }
bool filter_came() { return kernel_copies_forbidden.load(std::memory_order_relaxed) != 0; }
bool may_copy_by_kernel() { return kernel_copies_allowed.load(std::memory_order_relaxed) && !filter_came(); }

bool copy_if_readable(void* out, const void* a, size_t bytes) {
  Copied copied = may_copy_by_kernel() ? copy_by_kernel(out, a, bytes) : Copied::kRefused;
  if (copied != Copied::kRefused) return copied == Copied::kYes;
  if (!all_readable(a, bytes)) return false;
  memcpy(out, a, bytes);
  return true;
}

bool all_readable(const void* start, size_t bytes) {
  auto at = reinterpret_cast<uintptr_t>(start), end = at + bytes;
  if (end < at) return false;
  for (uintptr_t page = at & ~(kPage - 1); page < end; page += kPage)
    if (!readable(reinterpret_cast<const void*>(page))) return false;
  return true;
}

}  // namespace tidemark::base
