// A program that brings its own malloc in its executable, as Chromium and rustc do. Compiled with WRAPS, its malloc is a counting
// wrapper around the next one instead. Either way no block may reach a heap that it does not come from.
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <malloc.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>

static long allocations, frees;

#ifdef WRAPS

template <class Function>
static Function* next(const char* name, Function*& cache) {
  if (cache == nullptr) cache = reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
  return cache;
}
#define NEXT(name)              \
  static decltype(name)* cache; \
  auto* behind = next(#name, cache)

extern "C" void* malloc(size_t bytes) noexcept {
  NEXT(malloc);
  allocations++;
  return behind(bytes);
}
extern "C" void free(void* block) noexcept {
  NEXT(free);
  if (block != nullptr) frees++;
  behind(block);
}
extern "C" void* realloc(void* block, size_t bytes) noexcept {
  NEXT(realloc);
  return behind(block, bytes);
}

static void mix_families() {  // none of these is the program's own
  void* block = reallocarray(malloc(100), 30, 40);
  printf("usable=%d\n", malloc_usable_size(block) >= 1200);
  free(block);
  free(calloc(10, 10));
  free(memalign(256, 100));
  free(pvalloc(100));
  free(realloc(aligned_alloc(64, 640), 6400));
  if (posix_memalign(&block, 4096, 100) == 0) free(block);
}

#else

// A bump allocator whose blocks carry a mark: a foreign one ends the program.
namespace {
struct Header {
  uint64_t mark;
  size_t bytes;
};
constexpr uint64_t kMark = 0x6d696e65;
char* top;
char* end;
}  // namespace

static void* take(size_t alignment, size_t bytes) {
  if (bytes > (size_t{1} << 40)) return errno = ENOMEM, nullptr;
  const size_t needed = bytes + sizeof(Header) + alignment;
  if (top == nullptr || needed > static_cast<size_t>(end - top)) {
    const size_t mapped = (needed | 0xfffff) + 1;
    top = static_cast<char*>(mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    end = top + mapped;
  }
  uintptr_t address = reinterpret_cast<uintptr_t>(top) + sizeof(Header);
  address = (address + alignment - 1) / alignment * alignment;
  reinterpret_cast<Header*>(address)[-1] = {kMark, bytes};
  top = reinterpret_cast<char*>(address + bytes);
  allocations++;
  return reinterpret_cast<void*>(address);
}
static size_t size_of(void* block) {
  const Header& header = static_cast<Header*>(block)[-1];
  if (header.mark != kMark) abort();
  return header.bytes;
}

extern "C" void* malloc(size_t bytes) noexcept { return take(16, bytes); }
extern "C" void* calloc(size_t count, size_t size) noexcept {
  void* block = take(16, count * size);
  return memset(block, 0, count * size);
}
extern "C" void free(void* block) noexcept {
  if (block != nullptr && size_of(block) + 1 != 0) frees++;
}
extern "C" void* realloc(void* block, size_t bytes) noexcept {
  void* moved = take(16, bytes);
  if (block != nullptr) memcpy(moved, block, size_of(block) < bytes ? size_of(block) : bytes), free(block);
  return moved;
}
extern "C" void* memalign(size_t alignment, size_t bytes) noexcept { return take(alignment, bytes); }
extern "C" void* aligned_alloc(size_t alignment, size_t bytes) noexcept { return take(alignment, bytes); }
extern "C" int posix_memalign(void** block, size_t alignment, size_t bytes) noexcept {
  return *block = take(alignment, bytes), 0;
}

static void mix_families() {
  free(aligned_alloc(4096, 100));
  free(realloc(malloc(100), 1000));
}

#endif

struct alignas(256) Wide {
  char bytes[512];
};

int main() {
  mix_families();
  const long before = allocations;
  delete new int;
  delete[] new std::string[10];
  free(::operator new(100));
  ::operator delete(malloc(100));
#ifndef WRAPS
  delete new Wide;
#endif
  free(strdup("libc's own"));
  std::string text(1000, 'x');
  void (*volatile freed_by)(void*) = free;
  char* line = nullptr;
  size_t length = 0;
  FILE* source = fmemopen(text.data(), text.size(), "r");
  printf("getline: %zd\n", getline(&line, &length, source));
  freed_by(line);
  fclose(source);
  printf("program's malloc was used: %d\n", allocations - before >= 5);
  try {
    volatile size_t huge = PTRDIFF_MAX;
    (void)!::operator new(huge);
  } catch (const std::bad_alloc&) {
    printf("bad_alloc caught\n");
  }
  printf("balanced: %d\n", frees > 5);
  return 0;
}
