// Does what it is told on standard input, a line each, and answers "ok": so that a test decides when memory grows and shrinks.
//   leak BYTES        in blocks of 4 KiB, written to
//   scatter BYTES     allocates twice as much in blocks of 512 bytes, and frees every other one
//   drop              frees all that was allocated
//   untouched BYTES   one block, never written to
//   rounded BYTES     in blocks of 13 KiB, for which jemalloc takes 14
//   map BYTES         an anonymous mapping of its own, written to
//   rawmap BYTES      the same, by a raw system call
//   unmap BYTES       the last so many bytes of the latest of these
//   remap BYTES       the latest of these takes so many, all written to
//   break BYTES       the program's break goes up by so many, written to
//   stack BYTES       a thread that writes to so much of its stack, and stays
//   syslog NUMBER     a message by that number, under a name given once
//   stacks COUNT      one block from each of so many call stacks
//   quit
#include <alloca.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <syslog.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

std::vector<void*> blocks;

void* allocate(size_t bytes) {
  void* block = malloc(bytes);
  memset(block, 1, bytes);
  return block;
}

void leak(size_t bytes) {
  for (size_t done = 0; done < bytes; done += 4096) blocks.push_back(allocate(4096));
}

void scatter(size_t bytes) {
  std::vector<void*> to_free;
  for (size_t done = 0; done < bytes; done += 512) {
    blocks.push_back(allocate(512));
    to_free.push_back(allocate(512));
  }
  for (void* block : to_free) free(block);
}

void drop() {
  for (void* block : blocks) free(block);
  blocks.clear();
}

void rounded(size_t bytes) {
  for (size_t done = 0; done < bytes; done += 13 << 10) blocks.push_back(allocate(13 << 10));
}

char* mapping;
size_t mapping_bytes;

__attribute__((noinline)) void map(size_t bytes) {
  mapping = static_cast<char*>(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  mapping_bytes = bytes;
  memset(mapping, 1, bytes);
}

// By a bare instruction: syscall() is seen.
void raw_map(size_t bytes) {
  register long flags asm("r10") = MAP_PRIVATE | MAP_ANONYMOUS;
  register long file asm("r8") = -1;
  register long offset asm("r9") = 0;
  long at = SYS_mmap;
  asm volatile("syscall" : "+a"(at) : "D"(0), "S"(bytes), "d"(PROT_READ | PROT_WRITE), "r"(flags), "r"(file), "r"(offset) : "rcx", "r11", "memory");
  memset(reinterpret_cast<void*>(at), 1, bytes);
}

__attribute__((noinline)) void unmap(size_t bytes) {
  mapping_bytes -= bytes;
  munmap(mapping + mapping_bytes, bytes);
}

__attribute__((noinline)) void remap(size_t bytes) {
  mapping = static_cast<char*>(mremap(mapping, mapping_bytes, bytes, MREMAP_MAYMOVE));
  mapping_bytes = bytes;
  memset(mapping, 2, bytes);
}

__attribute__((noinline)) void raise_break(size_t bytes) { memset(sbrk(intptr_t(bytes)), 1, bytes); }

// The path is the number, bit by bit.
__attribute__((noinline)) void path(size_t number, int bits) {
  if (bits == 0) {
    blocks.push_back(malloc(16));
  } else if (number & 1) {
    path(number >> 1, bits - 1);
    asm volatile("");
  } else {
    path(number >> 1, bits - 1);
    asm volatile("nop");
  }
}

void stacks(size_t count) {
  for (size_t i = 0; i < count; i++) path(i, 20);
}

size_t stack_bytes;
std::atomic<bool> stack_written;

void* deep(void*) {
  void* volatile block = malloc(10);   // known to the shim from here on
  free(block);
  char* volatile room = static_cast<char*>(alloca(stack_bytes));
  memset(room, 1, stack_bytes);
  stack_written = true;
  for (;;) pause();
}

void stack(size_t bytes) {
  stack_bytes = bytes;
  pthread_t thread;
  pthread_create(&thread, nullptr, deep, nullptr);
  while (!stack_written) usleep(1000);
}

void write_to_syslog(size_t number) {
  static bool opened = (openlog("the-program", 0, LOG_USER), true);
  if (opened) syslog(LOG_INFO, "message %zu", number);
}
}  // namespace

int main() {
  char line[128];
  puts("ok");
  fflush(stdout);
  while (fgets(line, sizeof(line), stdin)) {
    std::string command(line, strcspn(line, " \n"));
    size_t bytes = strtoull(line + command.size(), nullptr, 10);
    if (command == "leak") leak(bytes);
    else if (command == "scatter") scatter(bytes);
    else if (command == "drop") drop();
    else if (command == "untouched") blocks.push_back(malloc(bytes));
    else if (command == "rounded") rounded(bytes);
    else if (command == "map") map(bytes);
    else if (command == "rawmap") raw_map(bytes);
    else if (command == "unmap") unmap(bytes);
    else if (command == "remap") remap(bytes);
    else if (command == "break") raise_break(bytes);
    else if (command == "stack") stack(bytes);
    else if (command == "stacks") stacks(bytes);
    else if (command == "syslog") write_to_syslog(bytes);
    else if (command == "quit") break;
    puts("ok");
    fflush(stdout);
  }
  return 0;
}
