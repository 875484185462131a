// A program that confines itself. Behind chroot the region's folder cannot be reached; and a seccomp filter may kill who makes a system call that it does not list. The filter comes by prctl, or
// by syscall(SYS_seccomp, …): libc has no function of its own for it.
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdarg>

#include "preload/base/own_calls.h"
#include "preload/hooks/caller.h"
#include "preload/hooks/real.h"
#include "preload/keeper/process_events.h"

namespace keeper = tidemark::keeper;
namespace real = tidemark::hooks::real;

TIDEMARK_HOOK int prctl(int operation, ...) {
  va_list list;
  va_start(list, operation);
  unsigned long a = va_arg(list, unsigned long), b = va_arg(list, unsigned long), c = va_arg(list, unsigned long),
                d = va_arg(list, unsigned long);
  va_end(list);
  if (operation != PR_SET_SECCOMP || (a == SECCOMP_MODE_FILTER && b == 0)) return real::prctl()(operation, a, b, c, d);   // without one: a question
  keeper::note_seccomp();
  int result = real::prctl()(operation, a, b, c, d);
  if (result != 0) keeper::note_seccomp_refused();
  return result;
}

TIDEMARK_HOOK int chroot(const char* path) {
  keeper::before_chroot();
  return real::chroot()(path);
}

namespace {

// Whether these arguments may bring a filter; others ask what the kernel can do, as libseccomp does (flags or a filter for strict mode are refused).
bool may_confine(unsigned long operation, unsigned long flags, const void* filter) {
  if (operation == SECCOMP_SET_MODE_STRICT) return flags == 0 && filter == nullptr;
  return operation == SECCOMP_SET_MODE_FILTER && filter != nullptr;
}
// seccomp(2): of a filter for all threads, the number of one that can't have it.
bool is_refused(unsigned long flags, long result) {
  bool for_all = flags & SECCOMP_FILTER_FLAG_TSYNC, gives_file = flags & SECCOMP_FILTER_FLAG_NEW_LISTENER;
  return result < 0 || (result > 0 && for_all && !gives_file);
}

}  // namespace

// syscall(SYS_seccomp, …). Where a filter has come, no system call follows.
extern "C" __attribute__((visibility("hidden"), used)) long tidemark_seccomp(long number, unsigned long operation, unsigned long flags, const void* filter) {
  const bool confines = may_confine(operation, flags, filter);
  if (confines) keeper::note_seccomp();
  const long result = __wrap_syscall(number, operation, flags, filter);
  if (confines && is_refused(flags, result)) keeper::note_seccomp_refused();
  return result;
}

// No frame of ours: a call such as vfork returns twice.
asm(R"(
  .text
  .globl syscall
  .type syscall, @function
  .p2align 4
syscall:
  .cfi_startproc
  endbr64
  cmpq $317, %rdi        # SYS_seccomp
  je tidemark_seccomp
  leaq -9(%rdi), %rax    # SYS_mmap, SYS_mprotect, SYS_munmap
  cmpq $2, %rax
  jbe tidemark_changes_pages
  cmpq $25, %rdi         # SYS_mremap
  je tidemark_changes_pages
  jmp __wrap_syscall     # base/own_calls.cpp
  .cfi_endproc
  .size syscall, . - syscall
)");
