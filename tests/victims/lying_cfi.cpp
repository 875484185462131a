// Functions whose unwind data lies about where their caller is: hand-written assembly that nobody ever unwound. Whatever it says, nothing
// may be read that is not there, also where the same lie once pointed to memory.
#include <cstdint>
#include <cstdlib>
#include <pthread.h>
#include <sys/mman.h>

#include "expect.h"

SITE void* site_under_a_liar() { return keep(malloc(40)); }

// Each calls site_under_a_liar with rbp as it is given and restores it.
#define LIAR(name, cfi)                                                                                                       \
  extern "C" void* name(uintptr_t rbp);                                                                                       \
  asm(".text\n.globl " #name "\n.type " #name ", @function\n" #name ":\n.cfi_startproc\npush %rbp\nmov %rdi, %rbp\n" cfi "\n" \
      "call site_under_a_liar\npop %rbp\nret\n.cfi_endproc\n.size " #name ", . - " #name "\n");

LIAR(says_far_above, ".cfi_def_cfa_offset 0x3fff8")
LIAR(says_above, ".cfi_def_cfa_offset 0x900")
LIAR(says_a_little_above, ".cfi_def_cfa_offset 0x58")
LIAR(says_below, ".cfi_def_cfa_offset -64")
LIAR(says_frame_pointer, ".cfi_def_cfa %rbp, 16\n.cfi_offset %rbp, -16")
LIAR(says_frame_pointer_far, ".cfi_def_cfa %rbp, 0x20000")
LIAR(says_behind_rbp, ".cfi_escape 0x0f, 0x03, 0x76, 0x78, 0x06")   // DW_CFA_def_cfa_expression: DW_OP_breg6 -8; DW_OP_deref
LIAR(says_rbp_is_elsewhere, ".cfi_def_cfa_offset 16\n.cfi_offset %rbp, 1000")
LIAR(says_signal, ".cfi_signal_frame")

using Liar = void* (*)(uintptr_t);
constexpr Liar kLiars[] = {says_far_above, says_above, says_a_little_above, says_below, says_frame_pointer, says_frame_pointer_far, says_behind_rbp, says_rbp_is_elsewhere, says_signal};
static long calls = 0;

FRAME void lie(Liar liar, uintptr_t rbp) {
  free(liar(rbp));
  __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED);
}

// What rbp may hold when a function uses it for something else.
FRAME void all_lies() {
  static char* wall = static_cast<char*>(mmap(nullptr, 3 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  static uint64_t data[64] = {0, 1, 2, uint64_t(-1), 0x7fffffffe000, 0x4141414141414141};
  auto here = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
  const uintptr_t values[] = {here, here + 4096, 0, 1, 16, uintptr_t(-8), uintptr_t(-16), 0xdeadbeefdeadbeef, reinterpret_cast<uintptr_t>(wall) + 4096,
                              reinterpret_cast<uintptr_t>(wall) - 16, reinterpret_cast<uintptr_t>(data), reinterpret_cast<uintptr_t>(data + 3), reinterpret_cast<uintptr_t>(&all_lies)};
  for (Liar liar : kLiars)
    for (uintptr_t value : values) lie(liar, value);
}

FRAME void deeper(int depth) {
  volatile char room[200];
  *keep(room) = 1;
  if (depth) deeper(depth - 1);
  else all_lies();
  asm volatile("");
}

// The same stacks of the innermost frames, near the top of a stack and far below it, where a lie leads to other frames, by turns.
SITE void* everywhere(void*) {
  for (int round = 0; round < 3; round++) {
    all_lies();
    deeper(2000);
    for (int depth = 0; depth < 20; depth++) deeper(depth);
  }
  return nullptr;
}

int main() {
  pthread_t threads[3];
  everywhere(nullptr);
  for (auto& t : threads) pthread_create(&t, nullptr, everywhere, nullptr);
  for (auto& t : threads) pthread_join(t, nullptr);
  everywhere(nullptr);
  expect("site_under_a_liar", calls, 40, calls);
}
