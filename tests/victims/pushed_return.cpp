// Hand-written code that calls without a call instruction: it pushes the address to return to, somewhere within itself, and says so in its unwind data. And a
// coroutine that returns to such an address at its end, above which its stack has words of other kinds, addresses of code among them.
#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>

#include "expect.h"

SITE void* site_behind_a_push() { return keep(malloc(40)); }
extern "C" void* pushes_and_jumps(void* (*to)());
extern "C" void* pushes_and_returns(void* (*to)());
asm(R"(.text
.macro pushes_its_return name
.type \name, @function
\name:
  .cfi_startproc
  push %rbx
  .cfi_adjust_cfa_offset 8
  lea 1f(%rip), %rcx
  push %rcx
  .cfi_adjust_cfa_offset 8
.endm
.macro goes_on given_up
1:
  .cfi_adjust_cfa_offset -\given_up
  pop %rbx
  .cfi_adjust_cfa_offset -8
  ret
  .cfi_endproc
.endm
pushes_its_return pushes_and_jumps
  jmp *%rdi
goes_on 8
pushes_its_return pushes_and_returns
  push %rdi
  .cfi_adjust_cfa_offset 8
  ret
goes_on 16
)");

constexpr int kRounds = 100;
SITE void calls_both() {
  free(pushes_and_jumps(site_behind_a_push));
  free(pushes_and_returns(site_behind_a_push));
  asm volatile("");
}
SITE void one_way() {
  calls_both();
  asm volatile("");
}
SITE void another_way() {
  for (int i = 0; i < kRounds; i++) calls_both();
  asm volatile("");
}

extern "C" {
void* site_on_coroutine() __attribute__((noipa));
void run_on(void* sp);
extern const char coroutine_end[];
}
void* site_on_coroutine() { return keep(malloc(88)); }
static void body() {
  free(site_on_coroutine());
  asm volatile("");
}
asm(R"(.text
.type run_on, @function
run_on:
  .cfi_startproc
  push %rbp
  .cfi_adjust_cfa_offset 8
  push %rbx
  .cfi_adjust_cfa_offset 8
  mov %rsp, outer_sp(%rip)
  mov %rdi, %rsp
  xor %ebp, %ebp
  ret
coroutine_end:
  mov outer_sp(%rip), %rsp
  pop %rbx
  .cfi_adjust_cfa_offset -8
  pop %rbp
  .cfi_adjust_cfa_offset -8
  ret
  .cfi_endproc
.local outer_sp
.comm outer_sp, 8, 8
)");
static void on_coroutines() {
  constexpr size_t kStack = 64 << 10, kAbove = 32;
  for (int i = 0; i < kRounds; i++) {   // each on a stack of its own, which is kept
    auto* stack = static_cast<char*>(mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    auto* top = reinterpret_cast<uintptr_t*>(stack + kStack) - kAbove;
    for (size_t word = 2; word < kAbove; word++) top[word] = reinterpret_cast<uintptr_t>(&pushes_and_jumps) + size_t(i % 4);   // no call ends there
    top[0] = reinterpret_cast<uintptr_t>(&body), top[1] = reinterpret_cast<uintptr_t>(coroutine_end);
    run_on(top);
  }
}

int main() {
  one_way();
  another_way();
  on_coroutines();
  expect("site_on_coroutine", kRounds, 88, kRounds);
  expect("site_behind_a_push", 2 * (kRounds + 1), 40, 2 * (kRounds + 1));
}
