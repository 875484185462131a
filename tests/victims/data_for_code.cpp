// Generated code without a frame pointer calls malloc while rbp points to a local structure whose second word is a pointer to data: each time another
// one. What leaks is one call stack.
//
//   data_for_code heap|stack|leaving    leaving: another thread takes the data's memory away and brings it back, all the time
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <thread>

#define SITE extern "C" __attribute__((noinline))
static void* volatile kept;
SITE void site_data_for_code() { kept = malloc(104); }

struct Words {
  void *first, *second;
};
using Generated = void (*)(void (*)());
extern "C" void call_with_rbp(Generated code, void (*site)(), Words* rbp);
__asm__(
    ".text\n.type call_with_rbp, @function\ncall_with_rbp:\n.cfi_startproc\npush %rbp\n.cfi_def_cfa_offset 16\n.cfi_offset 6, -16\n"
    "mov %rdx, %rbp\nmov %rdi, %rax\nmov %rsi, %rdi\ncall *%rax\npop %rbp\n.cfi_def_cfa_offset 8\nret\n.cfi_endproc\n.size call_with_rbp, . - call_with_rbp\n");

constexpr size_t kBytes = 64 << 10, kCalls = 4000, kUnsteady = 4 << 20, kUnsteadyCalls = 40'000;
static std::atomic<bool> over{false};
static void take_away_and_bring_back(char* data) {
  while (!over)
    for (int protection : {PROT_READ | PROT_WRITE, PROT_NONE})
      mmap(data, kUnsteady, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
}

static void call_each(void* page, char* data, size_t calls) {
  alignas(16) static char room[16];
  for (size_t i = 0; i < calls; i++) {
    Words words{room, data + i * 16};
    __asm__ volatile("" ::"r"(&words) : "memory");
    call_with_rbp(reinterpret_cast<Generated>(page), site_data_for_code, &words);
  }
}

int main(int, char** arguments) {
  static const unsigned char code[] = {0x48, 0x83, 0xec, 0x18, 0xff, 0xd7, 0x48, 0x83, 0xc4, 0x18, 0xc3};   // sub $24, %rsp; call *%rdi; add; ret
  void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return 77;
  memcpy(page, code, sizeof(code));
  if (strcmp(arguments[1], "leaving") == 0) {
    auto* data = static_cast<char*>(mmap(nullptr, kUnsteady, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    std::thread other(take_away_and_bring_back, data);
    call_each(page, data + 64, kUnsteadyCalls);
    over = true;
    other.join();
    return 0;
  }
  char on_stack[kBytes];
  char* data = strcmp(arguments[1], "heap") == 0 ? static_cast<char*>(malloc(kBytes)) : on_stack;
  for (size_t i = 0; i < kBytes; i++) data[i] = char(unsigned(i) * 2654435761u >> 13);   // some of it looks like the end of a call
  call_each(page, data, kCalls);
  return 0;
}
