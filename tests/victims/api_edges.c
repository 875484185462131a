// What the malloc family answers at its edges. Every line printed must be the same with and without the shim: glibc decides what
// is right.
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void free_sized(void*, size_t) __attribute__((weak));
void free_aligned_sized(void*, size_t, size_t) __attribute__((weak));
void cfree(void*) __attribute__((weak));

static const char* error_name(int error) {
  if (error == 0) return "0";
  if (error == ENOMEM) return "ENOMEM";
  if (error == EINVAL) return "EINVAL";
  if (error == EXDEV) return "kept";
  return "other";
}

// The largest power of two up to `limit` that the address is a multiple of.
static size_t alignment_of(void* block, size_t limit) {
  size_t alignment = 1;
  while (alignment < limit && (uintptr_t)block % (alignment * 2) == 0) alignment *= 2;
  return alignment;
}

// errno is EXDEV, which none of these sets, before every call.
static void show(const char* call, void* block, size_t bytes, size_t alignment) {
  const int error = errno;
  printf("%s: %s errno=%s", call, block == NULL ? "null" : "block", error_name(error));
  if (block != NULL) {
    printf(" aligned=%d", alignment_of(block, alignment) == alignment);
    printf(" usable=%d", malloc_usable_size(block) >= bytes);
    memset(block, 0x5a, bytes);
    free(block);
  }
  printf("\n");
}
#define SHOW(call, bytes, alignment) (errno = EXDEV, show(#call, call, bytes, alignment))

static int all_bytes(const void* block, int value, size_t bytes) {
  for (size_t i = 0; i < bytes; i++)
    if (((const unsigned char*)block)[i] != value) return 0;
  return 1;
}

static const size_t huge = PTRDIFF_MAX;
static const size_t whole = SIZE_MAX;

static void allocation(void) {
  SHOW(malloc(0), 0, 8);
  SHOW(malloc(1), 1, 8);
  SHOW(malloc(16), 16, 16);
  SHOW(malloc(100000), 100000, 16);
  SHOW(malloc(50000000), 50000000, 16);
  SHOW(malloc(huge), 0, 1);
  SHOW(malloc(huge + 1), 0, 1);
  SHOW(malloc(whole), 0, 1);
  SHOW(malloc(whole - 15), 0, 1);
  SHOW(malloc(whole - 4096), 0, 1);
  void *first = malloc(0), *second = malloc(0);
  printf("malloc(0) twice: %s\n", first != second ? "different" : "same");
  free(first), free(second);

  SHOW(calloc(0, 0), 0, 8);
  SHOW(calloc(0, 10), 0, 8);
  SHOW(calloc(10, 0), 0, 8);
  SHOW(calloc(7, 9), 63, 16);
  SHOW(calloc(whole, 2), 0, 1);
  SHOW(calloc((size_t)1 << 32, (size_t)1 << 32), 0, 1);
  SHOW(calloc(1, huge), 0, 1);
  SHOW(calloc(1, whole), 0, 1);
  for (size_t bytes = 1; bytes < 3000000; bytes = bytes * 3 + 1) {
    void* dirty = malloc(bytes);
    memset(dirty, 0xff, bytes);
    free(dirty);
    void* clean = calloc(1, bytes);
    printf("calloc(1, %zu): zero=%d\n", bytes, all_bytes(clean, 0, bytes));
    free(clean);
  }
}

static void* reallocated(void* block, size_t bytes) {
  errno = EXDEV;
  return realloc(block, bytes);
}

static void reallocation(void) {
  SHOW(realloc(NULL, 0), 0, 8);
  SHOW(realloc(NULL, 100), 100, 16);
  SHOW(realloc(NULL, whole), 0, 1);
  void* block = reallocated(malloc(10), 0);
  printf("realloc(p, 0): %s errno=%s\n", block == NULL ? "null" : "block", error_name(errno));

  for (size_t from = 1; from < 6000000; from *= 7)
    for (size_t to = 1; to < 6000000; to *= 11) {
      block = malloc(from);
      memset(block, 0x33, from);
      block = reallocated(block, to);
      printf("realloc %zu to %zu: kept=%d errno=%s\n", from, to, all_bytes(block, 0x33, from < to ? from : to),
             error_name(errno));
      free(block);
    }

  block = malloc(1000);
  memset(block, 0x44, 1000);
  const size_t impossible[] = {huge, huge + 1, whole, whole - 4095};
  for (size_t i = 0; i < sizeof(impossible) / sizeof(*impossible); i++) {
    void* moved = reallocated(block, impossible[i]);
    printf("realloc to %zx: %s errno=%s intact=%d\n", impossible[i], moved == NULL ? "null" : "block", error_name(errno),
           all_bytes(block, 0x44, 1000));
  }
  errno = EXDEV;
  void* moved = reallocarray(block, whole / 2, 3);
  printf("reallocarray overflow: %s errno=%s intact=%d\n", moved == NULL ? "null" : "block", error_name(errno),
         all_bytes(block, 0x44, 1000));
  block = reallocarray(block, 50, 40);
  printf("reallocarray 2000: kept=%d\n", all_bytes(block, 0x44, 1000));
  errno = EXDEV;
  block = reallocarray(block, 0, 40);
  printf("reallocarray 0: %s errno=%s\n", block == NULL ? "null" : "block", error_name(errno));
  SHOW(reallocarray(NULL, 5, 10), 50, 16);
  SHOW(reallocarray(NULL, 0, 0), 0, 8);
}

static void alignment(void) {
  const size_t alignments[] = {0,  1,  2,   3,   4,    7,    8,     9,       15,      16,           17,       24,       31,
                               32, 48, 100, 128, 1000, 4096, 65536, 2097152, 3000000, huge / 2 + 1, huge + 1, huge + 2, whole};
  const size_t sizes[] = {0, 1, 8, 100, 5000, huge, whole};
  for (size_t i = 0; i < sizeof(alignments) / sizeof(*alignments); i++)
    for (size_t j = 0; j < sizeof(sizes) / sizeof(*sizes); j++) {
      const size_t a = alignments[i], bytes = sizes[j];
      size_t power = 1;  // what memalign rounds to
      while (power < a && power < 2097152 * 2) power *= 2;
      char name[80];
      snprintf(name, sizeof(name), "memalign(%zx, %zx)", a, bytes);
      errno = EXDEV;
      show(name, memalign(a, bytes), bytes, power);
      snprintf(name, sizeof(name), "aligned_alloc(%zx, %zx)", a, bytes);
      errno = EXDEV;
      show(name, aligned_alloc(a, bytes), bytes, power);
      void* block = name;
      errno = EXDEV;
      const int result = posix_memalign(&block, a, bytes);
      printf("posix_memalign(%zx, %zx): %s errno=%s", a, bytes, error_name(result), error_name(errno));
      if (result != 0)
        printf(" untouched=%d\n", block == name);
      else {
        printf(" aligned=%d usable=%d\n", alignment_of(block, a) == a, malloc_usable_size(block) >= bytes);
        free(block);
      }
    }
  SHOW(valloc(0), 0, 4096);
  SHOW(valloc(1), 1, 4096);
  SHOW(valloc(5000), 5000, 4096);
  SHOW(valloc(whole), 0, 1);
  SHOW(pvalloc(1), 4096, 4096);
  SHOW(pvalloc(4096), 4096, 4096);
  SHOW(pvalloc(4097), 8192, 4096);
  SHOW(pvalloc(0), 0, 4096);
  SHOW(pvalloc(huge), 0, 1);
  SHOW(pvalloc(whole - 5), 0, 1);
}

static void release(void) {
  const size_t sizes[] = {1, 100, 5000, 200000, 40000000};
  for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
    void* block = malloc(sizes[i]);
    memset(block, 1, sizes[i]);
    errno = EXDEV;
    free(block);
    printf("free of %zu: errno=%s\n", sizes[i], error_name(errno));
    block = memalign(4096, sizes[i]);
    errno = EXDEV;
    free(block);
    printf("free of %zu, aligned: errno=%s\n", sizes[i], error_name(errno));
  }
  errno = EXDEV;
  free(NULL);
  printf("free(NULL): errno=%s\n", error_name(errno));
  printf("malloc_usable_size(NULL): %zu\n", malloc_usable_size(NULL));
  if (free_sized) free_sized(malloc(77), 77), free_sized(NULL, 0);
  if (free_aligned_sized) free_aligned_sized(aligned_alloc(64, 128), 64, 128), free_aligned_sized(NULL, 64, 0);
  if (cfree) cfree(malloc(77)), cfree(NULL);
}

static void figures(void) {
  void* block = malloc(1000000);
  memset(block, 1, 1000000);
  const struct mallinfo2 info = mallinfo2();
  printf("mallinfo2: in use=%d total=%d\n", info.uordblks + info.hblkhd >= 1000000, info.arena + info.hblkhd >= info.uordblks);
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  const struct mallinfo old = mallinfo();
  printf("mallinfo: in use=%d\n", old.uordblks + old.hblkhd >= 1000000);
  free(block);
  printf("mallopt: %d\n", mallopt(M_MMAP_THRESHOLD, 65536));
  const int trimmed = malloc_trim(0);
  printf("malloc_trim: %d\n", trimmed == 0 || trimmed == 1);
  char* text = NULL;
  size_t length = 0;
  FILE* stream = open_memstream(&text, &length);
  errno = EXDEV;
  const int refused = malloc_info(1, stream);
  printf("malloc_info(1): %s errno=%s\n", error_name(refused), error_name(errno));
  printf("malloc_info(0): %d\n", malloc_info(0, stream));
  fclose(stream);
  printf("malloc_info: begins=%d ends=%d\n", strncmp(text, "<malloc version=\"1\">\n", 21) == 0,
         strcmp(text + length - 10, "</malloc>\n") == 0);
  free(text);
  fflush(stderr);
  const int kept = dup(2), sink = memfd_create("stderr", 0);
  dup2(sink, 2);
  malloc_stats();
  fflush(stderr);
  dup2(kept, 2);
  char printed[10] = "";
  printf("malloc_stats: printed=%d", (int)pread(sink, printed, 9, 0));
  printf(" %s\n", strcmp(printed, "Arena 0:\n") == 0 ? "as glibc" : printed);
}

int main(void) {
  allocation();
  reallocation();
  alignment();
  release();
  figures();
  return 0;
}
