// Coroutines as small libraries make them: a stack of a few pages between unmapped ones, whose bottom is a plain address that
// nobody called from. It lies just below a thread's own stack, as mmap places it. What lies behind a bottom must not be
// read, whatever the unwind data of the code before that address says.
#include <cstdint>
#include <cstdlib>
#include <pthread.h>
#include <sys/mman.h>

#include "expect.h"

SITE void* site_on_small_stack() { return keep(malloc(48)); }
SITE void* site_at_the_edge() { return keep(malloc(80)); }
SITE void* site_in_greenlet() { return keep(malloc(112)); }

extern "C" void run_on(void* sp, void** back);   // continues at the address that sp points to; comes back through coroutine_end
extern "C" void coroutine_end();
extern "C" void plain_end();
extern "C" {
__thread void* outside;
void* outside_place() { return outside; }
}

// The code before coroutine_end claims a frame of 2 KiB: in the page behind the end of the stack.
asm(R"(
.text
.globl run_on, coroutine_end
.type run_on, @function
run_on:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, (%rsi)
  mov %rdi, %rsp
  xor %ebp, %ebp
  ret
.balign 16
before_the_end:
  .cfi_startproc
  .cfi_def_cfa_offset 0x808
  ud2
  .cfi_endproc
coroutine_end:
  sub $8, %rsp
  call outside_place
  mov %rax, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
.skip 32, 0x90
.globl plain_end
plain_end:   // no unwind data before it either
  jmp coroutine_end
)");

constexpr int kRounds = 300, kThreads = 4;
constexpr size_t kPage = 4096, kStack = 4 * kPage;

SITE void entry() {
  free(site_on_small_stack());
  void* volatile p = site_at_the_edge();
  free(p);
}

// As greenlets are entered: where its return address would be lies a 1. It comes back by another way.
SITE void greenlet() {
  free(site_in_greenlet());
  coroutine_end();
}

// Some way below the caller's own stack, where a busy address space has room.
static char* new_stack(bool page_behind) {
  uintptr_t below = reinterpret_cast<uintptr_t>(__builtin_frame_address(0)) - (48 << 20);
  auto* whole = static_cast<char*>(mmap(reinterpret_cast<void*>(below & ~(kPage - 1)), kStack + 2 * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  if (whole == MAP_FAILED || mprotect(whole + kPage, kStack + (page_behind ? kPage : 0), PROT_READ | PROT_WRITE) != 0) abort();
  return whole;
}

SITE void* worker_main(void*) {
  for (int i = 0; i < kRounds; i++) {
    char* whole = new_stack(i % 2);   // what was readable behind a bottom once is not the next time
    auto* top = reinterpret_cast<void**>(whole + kPage + kStack);
    int used = 0;
    top[--used] = reinterpret_cast<void*>(i % 3 ? coroutine_end : plain_end);
    top[--used] = reinterpret_cast<void*>(entry);
    run_on(top + used, &outside);
    used = 0;
    top[--used] = reinterpret_cast<void*>(1);
    top[--used] = reinterpret_cast<void*>(greenlet);
    run_on(top + used, &outside);
    munmap(whole, kStack + 2 * kPage);
  }
  return nullptr;
}

int main() {
  pthread_t threads[kThreads];
  for (auto& t : threads) pthread_create(&t, nullptr, worker_main, nullptr);
  for (auto& t : threads) pthread_join(t, nullptr);
  worker_main(nullptr);
  expect("site_on_small_stack", (kThreads + 1) * kRounds, 48, (kThreads + 1) * kRounds);
  expect("site_in_greenlet", (kThreads + 1) * kRounds, 112, (kThreads + 1) * kRounds);
  expect("site_at_the_edge", (kThreads + 1) * kRounds, 80, (kThreads + 1) * kRounds);
}
