// The aligned family. Bytes are those asked for, never the padding or the rounding to a page.
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <malloc.h>

#include "expect.h"

static void* aligned(void* p, size_t alignment) {
  if (!p || uintptr_t(p) % alignment) abort();
  return p;
}
SITE void* site_memalign() { return aligned(keep(memalign(64, 100)), 64); }
SITE void* site_memalign_page() { return aligned(keep(memalign(65536, 5001)), 65536); }
SITE void* site_posix() {
  void* p = nullptr;
  if (posix_memalign(&p, 256, 1003) != 0) abort();
  return aligned(keep(p), 256);
}
SITE void site_posix_bad() {
  void* p = nullptr;
  if (posix_memalign(&p, 24, 100) != EINVAL) abort();
}
SITE void* site_aligned_alloc() { return aligned(keep(aligned_alloc(32, 320)), 32); }
SITE void* site_valloc() { return aligned(keep(valloc(4000)), 4096); }
SITE void* site_pvalloc() { return aligned(keep(pvalloc(4096)), 4096); }
SITE void* site_calloc_big() {
  char* p = static_cast<char*>(keep(calloc(3, 70001)));
  if (p[0] || p[210002]) abort();
  return p;
}
SITE void site_calloc_overflow() {
  volatile size_t half = SIZE_MAX / 2;
  if (calloc(half, 3) != nullptr || errno != ENOMEM) abort();
}
SITE void* site_large_aligned() { return aligned(keep(aligned_alloc(1 << 20, 3 << 20)), 1 << 20); }

static void run(const char* name, void* (*site)(), long size, int count, int freed) {
  for (int i = 0; i < count; i++) {
    void* p = site();
    *static_cast<char*>(p) = 1;
    if (i < freed) free(p);
  }
  expect(name, count, size, freed);
}

int main() {
  run("site_memalign", site_memalign, 100, 500, 100);
  run("site_memalign_page", site_memalign_page, 5001, 50, 10);
  run("site_posix", site_posix, 1003, 300, 299);
  run("site_aligned_alloc", site_aligned_alloc, 320, 200, 0);
  run("site_valloc", site_valloc, 4000, 60, 6);
  run("site_pvalloc", site_pvalloc, 4096, 70, 7);
  run("site_calloc_big", site_calloc_big, 210003, 20, 2);
  run("site_large_aligned", site_large_aligned, 3 << 20, 4, 3);
  for (int i = 0; i < 5; i++) {
    site_posix_bad();
    site_calloc_overflow();
  }
  expect("site_posix_bad", 0, 0, 0);
  expect("site_calloc_overflow", 0, 0, 0);
}
