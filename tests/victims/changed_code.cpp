// Generated code that looks like CPython's trampolines is called, goes in many ways, and other code is called at the same address.
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "expect.h"

constexpr size_t kPage = 4096;
constexpr int kAll = PROT_READ | PROT_WRITE | PROT_EXEC, kAnonymous = MAP_PRIVATE | MAP_ANONYMOUS;
using Code = void (*)(long, long, long, void (*)());   // calls its fourth argument, at byte 8

// nop, four times; sub $8, %rsp; call *%rcx; add $8, %rsp; ret
constexpr unsigned char kTrampoline[] = {0x90, 0x90, 0x90, 0x90, 0x48, 0x83, 0xec, 0x08, 0xff, 0xd1, 0x48, 0x83, 0xc4, 0x08, 0xc3};
// push %rbp; mov %rsp, %rbp; push $0, twice; call *%rcx; leave; ret
constexpr unsigned char kFramePointer[] = {0x55, 0x48, 0x89, 0xe5, 0x6a, 0x00, 0x6a, 0x00, 0xff, 0xd1, 0xc9, 0xc3};

SITE void site_in_changed_code() { free(keep(malloc(40))); }
FRAME void write(void* page, const unsigned char* code, size_t bytes) { memcpy(page, code, bytes); }
FRAME void call(void* page) {
  reinterpret_cast<Code>(page)(0, 0, 0, site_in_changed_code);
  asm volatile("");
}

static void* map(void* at) { return mmap(at, kPage, kAll, kAnonymous | (at ? MAP_FIXED : 0), -1, 0); }
static void* by_munmap(void* page) {
  munmap(page, kPage);
  return mmap(page, kPage, kAll, kAnonymous | MAP_FIXED_NOREPLACE, -1, 0);
}
static void* by_mmap(void* page) { return map(page); }
static void* by_mprotect_of(void* page, size_t bytes) {
  mprotect(page, bytes, PROT_READ | PROT_WRITE);
  write(page, kFramePointer, sizeof(kFramePointer));
  mprotect(page, bytes, PROT_READ | PROT_EXEC);
  return page;
}
static void* by_mprotect(void* page) { return by_mprotect_of(page, kPage); }
static void* by_mprotect_of_a_part(void* page) { return by_mprotect_of(page, 1); }
static void* by_syscall(void* page) {
  syscall(SYS_munmap, page, kPage);
  return reinterpret_cast<void*>(syscall(SYS_mmap, page, kPage, kAll, kAnonymous | MAP_FIXED, -1, 0));
}
static void* by_mremap(void* page) {
  void* other = map(nullptr);
  return mremap(other, kPage, kPage, MREMAP_MAYMOVE | MREMAP_FIXED, page);
}

int main() {
  constexpr void* (*kWays[])(void*) = {by_munmap, by_mmap, by_mprotect, by_mprotect_of_a_part, by_syscall, by_mremap};
  long calls = 0;
  for (auto* change : kWays) {
    void* page = map(nullptr);
    write(page, kTrampoline, sizeof(kTrampoline));
    call(page);
    mprotect(page, kPage, kAll);   // nothing has changed
    call(page);
    if (change(page) != page) return 1;
    if (change != by_mprotect && change != by_mprotect_of_a_part) write(page, kFramePointer, sizeof(kFramePointer));
    call(page);
    calls += 3;
  }
  expect("site_in_changed_code", calls, 40, calls);
}
