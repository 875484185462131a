// Hand-written code that calls without a call instruction: it pushes the address to return to, somewhere within itself, and says so in its unwind data.
#include <cstdlib>

#include "expect.h"

SITE void* site_behind_a_push() { return keep(malloc(40)); }
extern "C" void* pushes_and_jumps(void* (*to)());
extern "C" void* pushes_and_returns(void* (*to)());
asm(R"(.text
.type pushes_and_jumps, @function
pushes_and_jumps:
  .cfi_startproc
  push %rbx
  .cfi_adjust_cfa_offset 8
  lea 1f(%rip), %rcx
  push %rcx
  .cfi_adjust_cfa_offset 8
  jmp *%rdi
1:
  .cfi_adjust_cfa_offset -8
  pop %rbx
  .cfi_adjust_cfa_offset -8
  ret
  .cfi_endproc
.type pushes_and_returns, @function
pushes_and_returns:
  .cfi_startproc
  push %rbx
  .cfi_adjust_cfa_offset 8
  lea 1f(%rip), %rcx
  push %rcx
  .cfi_adjust_cfa_offset 8
  push %rdi
  .cfi_adjust_cfa_offset 8
  ret
1:
  .cfi_adjust_cfa_offset -16
  pop %rbx
  .cfi_adjust_cfa_offset -8
  ret
  .cfi_endproc
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

int main() {
  one_way();
  another_way();
  expect("site_behind_a_push", 2 * (kRounds + 1), 40, 2 * (kRounds + 1));
}
