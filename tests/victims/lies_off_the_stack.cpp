// Unwind data that lies, and rbp, which it believes, leads off a thread's stack to memory that another thread maps and unmaps all the time, right beside it and
// further away.
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>

#include "expect.h"

SITE void* site_under_a_liar() { return keep(malloc(40)); }

extern "C" void* says_frame_pointer(uintptr_t rbp);
extern "C" void* says_behind_rbp(uintptr_t rbp);
asm(R"(.text
.type says_frame_pointer, @function
says_frame_pointer:
  .cfi_startproc
  push %rbp
  .cfi_def_cfa %rbp, 16
  .cfi_offset %rbp, -16
  mov %rdi, %rbp
  call site_under_a_liar
  pop %rbp
  ret
  .cfi_endproc
.type says_behind_rbp, @function
says_behind_rbp:
  .cfi_startproc
  push %rbp
  .cfi_escape 0x0f, 0x03, 0x76, 0x00, 0x06   # DW_CFA_def_cfa_expression: DW_OP_breg6 0; DW_OP_deref
  mov %rdi, %rbp
  call site_under_a_liar
  pop %rbp
  ret
  .cfi_endproc
)");

constexpr size_t kStack = 256 << 10, kBeside = 256 << 10, kRounds = 40000;
static char* area;   // a stack, and what comes and goes beside it
static std::atomic<bool> over{false};
static long calls = 0;

// Chains of frames, each of which returns to where code is.
static int make_chains() {
  int file = memfd_create("chains", 0);
  ftruncate(file, kBeside);
  auto* words = static_cast<uintptr_t*>(mmap(nullptr, kBeside, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));
  for (size_t i = 0; i < kBeside / sizeof(*words); i += 8) {
    words[i] = i % 128 == 120 ? 0 : reinterpret_cast<uintptr_t>(area + kStack) + (i + 8) * sizeof(*words);
    words[i + 1] = reinterpret_cast<uintptr_t>(&says_frame_pointer) + 9;   // behind its call
  }
  munmap(words, kBeside);
  return file;
}

static void* come_and_go(void*) {
  for (int file = make_chains(); !over;) {
    munmap(area + kStack, kBeside);
    mmap(area + kStack, kBeside, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0);
  }
  return nullptr;
}

FRAME void lie(size_t from) {
  for (size_t i = 0; i < kRounds; i++) {
    auto edge = reinterpret_cast<uintptr_t>(area + kStack), rbp = edge + from + i % 64 * 64;
    free(says_frame_pointer(rbp));
    free(says_behind_rbp(rbp));
    free(says_frame_pointer(edge - i % 32));   // words that begin on the stack and end beside it
    calls += 3;
  }
  asm volatile("");
}

static void* on_own_stack(void*) {
  lie(0);
  lie(kBeside / 2);
  return nullptr;
}

int main() {
  area = static_cast<char*>(mmap(nullptr, kStack + kBeside, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  pthread_t coming, liar;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstack(&attributes, area, kStack);
  pthread_create(&coming, nullptr, come_and_go, nullptr);
  pthread_create(&liar, &attributes, on_own_stack, nullptr);
  pthread_join(liar, nullptr);
  over = true;
  pthread_join(coming, nullptr);
  expect("site_under_a_liar", calls, 40, calls);
}
