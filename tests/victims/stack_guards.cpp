// Pages of a thread's own stack that nobody can read any more, between where it allocates and where it did before, by the same call at the same place.
//
//   stack_guards WAY [main]   in a thread, or in the main one; exit status 77: not possible here
//
// WAY: how the page goes. mprotect, pkey, mmap, madvise, munmap, mremap, covered (by one that is moved there), file (an empty one), syscall, syscall_mmap, syscall_munmap,
// syscall_mremap; other, munmap_other, mremap_other: by another thread; below: before the thread goes there, to a coroutine's
// stack in the part of its own that it does not use.
#include <alloca.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <thread>

namespace {

constexpr uintptr_t kPage = 4096, kBelow = 60'000;
const char* way;
bool is(const char* name) { return strcmp(way, name) == 0; }

void* elsewhere(size_t bytes, int protection) { return mmap(nullptr, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); }
void* move(void* from, void* to, size_t bytes) {
  if (is("syscall_mremap")) return reinterpret_cast<void*>(syscall(SYS_mremap, from, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, to));
  return mremap(from, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, to);
}
int move_away(void* at, size_t bytes) {
  void* to = elsewhere(bytes, PROT_NONE);
  return move(at, to, bytes) == to ? munmap(to, bytes) : -1;
}
int cover(void* at, size_t bytes, int protection) { return move(elsewhere(bytes, protection), at, bytes) == at ? 0 : -1; }

int change(char* at, size_t bytes, bool on) {
  constexpr int kOpen = PROT_READ | PROT_WRITE, kInstall = 102, kRemove = 103;   // MADV_GUARD_INSTALL, _REMOVE
  int protection = on ? PROT_NONE : kOpen;
  auto map = [&] { return mmap(at, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at ? 0 : -1; };
  if (is("pkey")) return pkey_mprotect(at, bytes, protection, -1);
  if (is("mmap")) return map();
  if (is("munmap") || is("munmap_other")) return on ? munmap(at, bytes) : map();
  if (is("mremap") || is("mremap_other")) return on ? move_away(at, bytes) : map();
  if (is("file") && on) {
    static int empty = memfd_create("empty", 0);
    return mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, empty, 0) == at ? 0 : -1;
  }
  if (is("file")) return map();
  if (is("covered")) return cover(at, bytes, protection);
  if (is("syscall_munmap")) return on ? int(syscall(SYS_munmap, at, bytes)) : map();
  if (is("syscall_mremap")) return on ? move_away(at, bytes) : map();
  if (is("syscall_mmap")) return syscall(SYS_mmap, at, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == long(at) ? 0 : -1;
  if (is("madvise")) return madvise(at, bytes, on ? kInstall : kRemove);
  if (is("syscall")) return int(syscall(SYS_mprotect, at, bytes, protection));
  return mprotect(at, bytes, protection);
}
void must(int result) {
  if (result != 0) _exit(77);
}
void set_guard(uintptr_t low, uintptr_t high, bool on) {
  auto at = reinterpret_cast<char*>((low + kPage - 1) & ~(kPage - 1));
  size_t bytes = (high & ~(kPage - 1)) - reinterpret_cast<uintptr_t>(at);
  if (strstr(way, "other")) std::thread([=] { must(change(at, bytes, on)); }).join();
  else must(change(at, bytes, on));
}

__attribute__((noinline)) void leaf() {
  void* block = malloc(40);
  asm volatile("" : "+r"(block)::"memory");
  free(block);
}
uintptr_t target;
// Calls leaf from the same place each time, whatever lies above.
__attribute__((noinline)) void call_there(bool guarded) {
  uintptr_t here = reinterpret_cast<uintptr_t>(__builtin_frame_address(0)) - 512;
  auto* room = static_cast<char*>(alloca(here - target));
  asm volatile("" ::"r"(room) : "memory");
  auto low = reinterpret_cast<uintptr_t>(room) + 2 * kPage, high = here - kPage;
  if (guarded) set_guard(low, high, true);
  for (volatile int i = 0; i < 20; i = i + 1) leaf();
  if (guarded) set_guard(low, high, false);
}
__attribute__((noinline)) void deep(int depth) {
  char room[1900];
  asm volatile("" ::"r"(room) : "memory");
  if (depth) deep(depth - 1);
  else call_there(false);
  asm volatile("");
}
void call_unguarded() { call_there(false); }
void on_stack(uintptr_t top, void (*body)()) {
  asm volatile("subq $128, %%rsp; pushq %%rbx; pushq %%rbp; movq %%rsp, %%rbx; movq %%rdi, %%rsp; xorl %%ebp, %%ebp; call *%%rsi\n\t"
               "movq %%rbx, %%rsp; popq %%rbp; popq %%rbx; addq $128, %%rsp"
               : "+D"(top), "+S"(body)::"memory", "rax", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15");
}

void* work(void*) {
  auto sp = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
  target = (sp - kBelow) & ~uintptr_t{63};
  for (int round = 0; round < 200; round++) {
    deep(20);
    deep(12);
    if (is("below")) {
      set_guard(target + 3 * kPage, sp - 2 * kPage, true);
      on_stack((target + 2 * kPage) & ~uintptr_t{63}, call_unguarded);
      set_guard(target + 3 * kPage, sp - 2 * kPage, false);
    } else {
      call_there(true);
    }
  }
  return nullptr;
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 2) return 2;
  way = arguments[1];
  if (count > 2) return work(nullptr) != nullptr;
  pthread_t thread;
  must(pthread_create(&thread, nullptr, work, nullptr));
  return pthread_join(thread, nullptr);
}
