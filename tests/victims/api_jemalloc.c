// A host that is linked to jemalloc and mixes its family with malloc's. Every line printed must be the same with and without the
// shim; with it, all of it is one heap.
#include <jemalloc/jemalloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int all_bytes(const void* block, int value, size_t bytes) {
  for (size_t i = 0; i < bytes; i++)
    if (((const unsigned char*)block)[i] != value) return 0;
  return 1;
}

static size_t allocated_by_this_thread(void) {
  uint64_t value = 0;
  size_t length = sizeof(value);
  mallctl("thread.allocated", &value, &length, NULL, 0);
  return value;
}

static void allocation(void) {
  for (size_t bytes = 1; bytes < 5000000; bytes = bytes * 5 + 3) {
    void* block = mallocx(bytes, MALLOCX_ZERO);
    printf("mallocx %zu: zero=%d sallocx=%zu nallocx=%zu\n", bytes, all_bytes(block, 0, bytes), sallocx(block, 0),
           nallocx(bytes, 0));
    memset(block, 7, bytes);
    block = rallocx(block, bytes * 3, MALLOCX_ZERO);
    printf("rallocx: kept=%d rest zero=%d\n", all_bytes(block, 7, bytes), all_bytes((char*)block + sallocx(block, 0) - 1, 0, 1));
    printf("xallocx: at least=%d\n", xallocx(block, bytes * 3, 100, 0) >= bytes * 3);
    sdallocx(block, bytes * 3, 0);
    for (int lg = 3; lg < 16; lg++) {
      block = mallocx(bytes, MALLOCX_LG_ALIGN(lg) | MALLOCX_TCACHE_NONE);
      if ((uintptr_t)block % ((size_t)1 << lg) != 0) printf("misaligned\n");
      dallocx(block, MALLOCX_TCACHE_NONE);
    }
  }
  printf("mallocx huge: %s\n", mallocx(PTRDIFF_MAX, 0) == NULL ? "null" : "block");
  void* block = malloc(100);
  memset(block, 9, 100);
  printf("rallocx huge: %s\n", rallocx(block, PTRDIFF_MAX, 0) == NULL ? "null" : "block");
  printf("intact=%d\n", all_bytes(block, 9, 100));
  dallocx(block, 0);
}

static void one_heap(void) {
  const size_t before = allocated_by_this_thread();
  void* block = malloc(1000);
  printf("malloc is jemalloc's: %zu\n", allocated_by_this_thread() - before);
  block = rallocx(block, 2000, 0);
  block = realloc(block, 3000);
  printf("usable: %zu %zu\n", malloc_usable_size(block), sallocx(block, 0));
  sdallocx(block, 3000, 0);
  free(mallocx(300, MALLOCX_ALIGN(256)));
  dallocx(strdup("a string of libc's"), 0);
}

static void printed(void* argument, const char* text) { *(size_t*)argument += strlen(text); }

static void control(void) {
  size_t mib[4], length = 4, page = 0, size = sizeof(page);
  printf("nametomib: %d", mallctlnametomib("arenas.page", mib, &length));
  printf(" length=%zu", length);
  printf(" bymib: %d", mallctlbymib(mib, length, &page, &size, NULL, 0));
  printf(" page=%zu\n", page);
  unsigned arena = 0;
  size = sizeof(arena);
  printf("arenas.create: %d\n", mallctl("arenas.create", &arena, &size, NULL, 0));
  void* block = mallocx(5000, MALLOCX_ARENA(arena) | MALLOCX_TCACHE_NONE);
  memset(block, 1, 5000);
  unsigned found = 0;
  size = sizeof(found);
  printf("arenas.lookup: %d", mallctl("arenas.lookup", &found, &size, &block, sizeof(block)));
  printf(" same=%d\n", found == arena);
  dallocx(block, MALLOCX_TCACHE_NONE);
  printf("no such name: %d\n", mallctl("no.such.name", NULL, NULL, NULL, 0));
  size_t bytes = 0;
  malloc_stats_print(printed, &bytes, "a");
  printf("stats to a function: %d\n", bytes > 500);
}

// Blocks of an arena that is destroyed later: once the thread's cache is flushed, nothing of the arena may be given out again.
static void own_arena(void) {
  enum { kBlocks = 400 };
  static void *blocks[kBlocks], *used_up[kBlocks];
  for (int i = 0; i < kBlocks; i++) used_up[i] = malloc(100);   // whatever cache there is in front of jemalloc's has none left
  unsigned arena = 0;
  size_t size = sizeof(arena);
  mallctl("arenas.create", &arena, &size, NULL, 0);
  for (int i = 0; i < kBlocks; i++) memset(blocks[i] = mallocx(100, MALLOCX_ARENA(arena)), i, 100);
  for (int i = 0; i < kBlocks; i++) free(blocks[i]);
  mallctl("thread.tcache.flush", NULL, NULL, NULL, 0);
  char name[64];
  snprintf(name, sizeof(name), "arena.%u.destroy", arena);
  printf("destroyed: %d\n", mallctl(name, NULL, NULL, NULL, 0));
  int kept = 1;
  for (int i = 0; i < kBlocks; i++) memset(blocks[i] = malloc(100), i, 100);
  for (int i = 0; i < kBlocks; i++) {
    unsigned owner = arena;
    size = sizeof(owner);
    kept &= all_bytes(blocks[i], i & 255, 100) && mallctl("arenas.lookup", &owner, &size, &blocks[i], sizeof(blocks[i])) == 0 && owner != arena;
  }
  for (int i = 0; i < kBlocks; i++) free(blocks[i]), free(used_up[i]);
  printf("blocks after it: %d\n", kept);
}

int main(void) {
  allocation();
  one_heap();
  own_arena();
  control();
  malloc_stats_print(NULL, NULL, "gmdablxe");  // on standard error: the test looks whether anything came
  return 0;
}
