// mmap and its kin: forwarded, and what they did is noted. Called before the constructor has run, they go to the kernel themselves.
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdarg>

#include "preload/base/own_mappings.h"
#include "preload/heap/mappings.h"
#include "preload/heap/threads.h"
#include "preload/hooks/caller.h"
#include "preload/hooks/real.h"
#include "preload/stacks/module_reading.h"

namespace base = tidemark::base;
namespace heap = tidemark::heap;
namespace real = tidemark::hooks::real;
using tidemark::Caller;

namespace {

constexpr uintptr_t kPage = 4096;

// Pages that can no longer be read: the guard of a coroutine's stack that lies in a thread's, or what was a module's.
void lose_pages(const void* start, size_t bytes) { heap::lose_pages(reinterpret_cast<uintptr_t>(start), bytes); }
void forget_pages(const void* start, size_t bytes) { heap::forget_pages(reinterpret_cast<uintptr_t>(start), bytes); }
// Around the call, with what the first one gave: who reads a module's unwind data there reads on first, or takes care.
uint32_t begin_to_close(const void* start, size_t bytes) {
  return tidemark::stacks::begin_to_close(reinterpret_cast<uintptr_t>(start), reinterpret_cast<uintptr_t>(start) + bytes);
}
uint32_t close_pages(const void* start, size_t bytes) {
  const uint32_t ticket = begin_to_close(start, bytes);
  lose_pages(start, bytes);
  return ticket;
}
void closed_pages(const void* start, size_t bytes, uint32_t ticket) {
  forget_pages(start, bytes);
  tidemark::stacks::end_to_close(ticket);
}

inline void* address_of(void* start) { return start; }
inline void* address_of(long start) { return reinterpret_cast<void*>(start); }

// What is noted, whoever is asked by `call`.
template <class Call>
inline __attribute__((always_inline)) void* map_by(Call call, void* start, size_t bytes, int protection, int flags, const Caller& caller) {
  const bool may_be_read = protection & PROT_READ && flags & MAP_ANONYMOUS;   // a file may end before its mapping does
  const bool replaces = flags & MAP_FIXED, closes = replaces && !may_be_read;
  const uint32_t ticket = closes ? close_pages(start, bytes) : 0;
  void* const at = address_of(call());
  if (closes) closed_pages(start, bytes, ticket);
  if (at != MAP_FAILED) heap::note_mapped(at, bytes, caller);
  return at;
}

template <class Call>
inline __attribute__((always_inline)) int unmap_by(Call call, void* start, size_t bytes) {
  const uint32_t ticket = close_pages(start, bytes);
  heap::Unmapping unmapping(start, bytes);
  int result = int(call());
  closed_pages(start, bytes, ticket);
  if (result != 0) unmapping.failed();
  return result;
}

template <class Call>
inline __attribute__((always_inline)) void* remap_by(Call call, void* old, size_t old_bytes, size_t bytes, int flags, const void* start, const Caller& caller) {
  const bool replaces = flags & MREMAP_FIXED;   // what comes there may be closed to all
  const uint32_t ticket = begin_to_close(old, old_bytes), other = replaces ? close_pages(start, bytes) : 0;
  if (!(flags & MREMAP_DONTUNMAP)) lose_pages(old, old_bytes);
  bool stays = old_bytes == 0 || flags & MREMAP_DONTUNMAP;
  heap::Unmapping unmapping(old, stays ? 0 : old_bytes);
  void* const at = address_of(call());
  closed_pages(old, old_bytes, ticket);
  if (replaces) closed_pages(start, bytes, other);
  if (at == MAP_FAILED) unmapping.failed();
  else heap::note_mapped(at, bytes, caller);
  return at;
}

inline __attribute__((always_inline)) void* map(void* start, size_t bytes, int protection, int flags, int file, off_t offset, const Caller& caller) {
  auto* next = real::known_mmap();
  auto call = [&] { return next ? next(start, bytes, protection, flags, file, offset) : base::own_mmap(start, bytes, protection, flags, file, offset); };
  return map_by(call, start, bytes, protection, flags, caller);
}

// The break went from `before` to `after`. Nobody else's mapping can come to lie where it was: other threads' calls of brk would do worse.
void note_break(uintptr_t before, uintptr_t after, const Caller& caller) {
  before = (before + kPage - 1) & ~(kPage - 1);
  after = (after + kPage - 1) & ~(kPage - 1);
  if (after > before) heap::note_mapped(reinterpret_cast<void*>(before), after - before, caller);
  else heap::Unmapping(reinterpret_cast<void*>(after), before - after);
}

}  // namespace

TIDEMARK_HOOK void* mmap(void* start, size_t bytes, int protection, int flags, int file, off_t offset) {
  const Caller caller = TIDEMARK_CALLER();
  return map(start, bytes, protection, flags, file, offset, caller);
}

TIDEMARK_HOOK void* mmap64(void* start, size_t bytes, int protection, int flags, int file, off64_t offset) {
  const Caller caller = TIDEMARK_CALLER();
  return map(start, bytes, protection, flags, file, offset, caller);
}

TIDEMARK_HOOK int munmap(void* start, size_t bytes) {
  auto* next = real::known_munmap();
  return unmap_by([&] { return next ? next(start, bytes) : base::own_munmap(start, bytes); }, start, bytes);
}

TIDEMARK_HOOK void* mremap(void* old, size_t old_bytes, size_t bytes, int flags, ...) {
  const Caller caller = TIDEMARK_CALLER();
  va_list list;
  va_start(list, flags);
  void* start = va_arg(list, void*);   // read by the kernel where flags ask for it
  va_end(list);
  auto* next = real::known_mremap();
  auto call = [&] { return next ? next(old, old_bytes, bytes, flags, start) : base::own_mremap(old, old_bytes, bytes, flags, start); };
  return remap_by(call, old, old_bytes, bytes, flags, start, caller);
}

namespace {
template <class Call>
int protect_by(Call call, void* start, size_t bytes, int protection) {
  const bool closes = !(protection & PROT_READ);
  const uint32_t ticket = closes ? close_pages(start, bytes) : 0;
  int result = int(call());
  if (closes) closed_pages(start, bytes, ticket);
  heap::note_changed_rights(start, bytes);
  return result;
}
}  // namespace

TIDEMARK_HOOK int mprotect(void* start, size_t bytes, int protection) {
  auto* next = real::known_mprotect();
  return protect_by([&] { return next ? next(start, bytes, protection) : int(syscall(SYS_mprotect, start, bytes, protection)); }, start, bytes, protection);
}

// syscall(SYS_mmap, …) and its kin: see confinement.cpp. Nobody else's mmap is called: the program asked for the kernel's.
extern "C" __attribute__((visibility("hidden"), used)) long tidemark_changes_pages(long number, void* start, size_t bytes, long third, long fourth, void* fifth, long sixth) {
  const Caller caller = TIDEMARK_CALLER();
  auto call = [&] { return syscall(number, start, bytes, third, fourth, fifth, sixth); };   // the shim's own, see base/own_calls.cpp
  if (number == SYS_mmap) return reinterpret_cast<long>(map_by(call, start, bytes, int(third), int(fourth), caller));
  if (number == SYS_mremap) return reinterpret_cast<long>(remap_by(call, start, bytes, size_t(third), int(fourth), fifth, caller));
  if (number == SYS_munmap) return unmap_by(call, start, bytes);
  return protect_by(call, start, bytes, int(third));
}

TIDEMARK_HOOK int pkey_mprotect(void* start, size_t bytes, int protection, int key) {
  auto* next = real::known_pkey_mprotect();
  auto call = [&] { return next ? next(start, bytes, protection, key) : int(syscall(SYS_pkey_mprotect, start, bytes, protection, key)); };
  return protect_by(call, start, bytes, key == -1 ? protection : PROT_NONE);   // a key's rights may change at any moment
}

TIDEMARK_HOOK int madvise(void* start, size_t bytes, int advice) {
  constexpr int kGuardInstall = 102;   // MADV_GUARD_INSTALL, linux/mman.h, since 6.13
  auto* next = real::known_madvise();
  auto call = [&] { return next ? next(start, bytes, advice) : int(syscall(SYS_madvise, start, bytes, advice)); };
  return advice == kGuardInstall ? protect_by(call, start, bytes, PROT_NONE) : call();
}

TIDEMARK_HOOK int brk(void* end) {
  const Caller caller = TIDEMARK_CALLER();
  auto before = uintptr_t(syscall(SYS_brk, 0));
  int result = real::brk()(end);
  if (result == 0) note_break(before, reinterpret_cast<uintptr_t>(end), caller);
  return result;
}

extern "C" void* __sbrk(intptr_t increment);   // libc's other name for it

TIDEMARK_HOOK void* sbrk(intptr_t increment) {
  const Caller caller = TIDEMARK_CALLER();
  void* before = __sbrk(increment);
  if (increment != 0 && before != reinterpret_cast<void*>(-1)) note_break(uintptr_t(before), uintptr_t(before) + uintptr_t(increment), caller);
  return before;
}
