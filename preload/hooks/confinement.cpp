// A program that confines itself. Behind chroot the region's folder cannot be reached; and a seccomp filter may kill who makes a system call that it does not list. The filter comes by prctl, or
// by syscall(SYS_seccomp, …): libc has no function of its own for it.
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdarg>

#include "preload/hooks/caller.h"
#include "preload/hooks/real.h"
#include "preload/keeper/process_events.h"

namespace real = tidemark::hooks::real;

TIDEMARK_HOOK int prctl(int operation, ...) {
  va_list list;
  va_start(list, operation);
  unsigned long a = va_arg(list, unsigned long), b = va_arg(list, unsigned long), c = va_arg(list, unsigned long),
                d = va_arg(list, unsigned long);
  va_end(list);
  if (operation == PR_SET_SECCOMP && (a != SECCOMP_MODE_FILTER || b != 0)) tidemark::keeper::note_seccomp();   // without one: a question
  return real::prctl()(operation, a, b, c, d);
}

TIDEMARK_HOOK int chroot(const char* path) {
  tidemark::keeper::before_chroot();
  return real::chroot()(path);
}

// The arguments of syscall. Whoever asks what the kernel can do gives no filter, or another operation.
extern "C" __attribute__((visibility("hidden"), used)) void tidemark_note_seccomp(long, unsigned long operation, unsigned long, const void* filter) {
  if (operation == SECCOMP_SET_MODE_STRICT || (operation == SECCOMP_SET_MODE_FILTER && filter != nullptr)) tidemark::keeper::note_seccomp();
}

// As glibc's (sysdeps/unix/sysv/linux/x86_64/syscall.S), and no frame of ours: a call such as vfork returns twice.
asm(R"(
  .text
  .globl syscall
  .type syscall, @function
  .p2align 4
syscall:
  .cfi_startproc
  endbr64
  cmpq $317, %rdi        # SYS_seccomp
  je 2f
1:
  movq %rdi, %rax
  movq %rsi, %rdi
  movq %rdx, %rsi
  movq %rcx, %rdx
  movq %r8, %r10
  movq %r9, %r8
  movq 8(%rsp), %r9
  syscall
  cmpq $-4095, %rax
  jae 3f
  ret
2:
  pushq %rdi
  .cfi_adjust_cfa_offset 8
  pushq %rsi
  .cfi_adjust_cfa_offset 8
  pushq %rdx
  .cfi_adjust_cfa_offset 8
  pushq %rcx
  .cfi_adjust_cfa_offset 8
  pushq %r8
  .cfi_adjust_cfa_offset 8
  pushq %r9
  .cfi_adjust_cfa_offset 8
  subq $8, %rsp          # calls want it divisible by 16
  .cfi_adjust_cfa_offset 8
  call tidemark_note_seccomp
  addq $8, %rsp
  .cfi_adjust_cfa_offset -8
  popq %r9
  .cfi_adjust_cfa_offset -8
  popq %r8
  .cfi_adjust_cfa_offset -8
  popq %rcx
  .cfi_adjust_cfa_offset -8
  popq %rdx
  .cfi_adjust_cfa_offset -8
  popq %rsi
  .cfi_adjust_cfa_offset -8
  popq %rdi
  .cfi_adjust_cfa_offset -8
  jmp 1b
3:
  negq %rax
  pushq %rax
  .cfi_adjust_cfa_offset 8
  call *__errno_location@GOTPCREL(%rip)
  popq %rdx
  .cfi_adjust_cfa_offset -8
  movl %edx, (%rax)
  movq $-1, %rax
  ret
  .cfi_endproc
  .size syscall, . - syscall
)");
