// Generated code runs where a library comes to lie later, with the library's return addresses: whatever is known of those is wrong then. It goes in three ways,
// in turn. Usage: code_before_library LIBRARY [ROUNDS]
#include <dlfcn.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <vector>

#include "expect.h"

using Entry = void* (*)(size_t);
constexpr int kAll = PROT_READ | PROT_WRITE | PROT_EXEC, kAnonymous = MAP_PRIVATE | MAP_ANONYMOUS;
constexpr int kPerRound = 5;

FRAME void call_generated(Entry entry) {
  free(keep(entry(100)));
  asm volatile("");
}
FRAME void call_library(Entry entry) {
  free(keep(entry(200)));
  asm volatile("");
}

struct Library {
  void* handle;
  char* start;
  size_t bytes;
  Entry entry;
};

static Library load(const char* file) {
  void* handle = dlopen(file, RTLD_NOW | RTLD_LOCAL);
  if (!handle) exit(2);
  auto entry = reinterpret_cast<Entry>(dlsym(handle, "plugin_entry"));
  dl_find_object object;
  if (_dl_find_object(reinterpret_cast<void*>(entry), &object) != 0) exit(2);
  auto* start = static_cast<char*>(object.dlfo_map_start);
  return {handle, start, (size_t(static_cast<char*>(object.dlfo_map_end) - start) + 4095) & ~size_t{4095}, entry};
}

static void go_away(void* start, size_t bytes, int way) {
  if (way == 0) munmap(start, bytes);
  if (way == 1) syscall(SYS_munmap, start, bytes);
  if (way == 2) munmap(mremap(start, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, static_cast<char*>(start) - (64 << 20)), bytes);
}

int main(int argc, char** argv) {
  const int rounds = argc > 2 ? atoi(argv[2]) : 30;
  Library first = load(argv[1]);   // never called: nobody knows that it was there
  std::vector<char> image(first.start, first.start + first.bytes);
  dlclose(first.handle);
  int same = 0;
  for (int round = 0; round < rounds; round++) {
    void* code = mmap(first.start, first.bytes, kAll, kAnonymous | MAP_FIXED_NOREPLACE, -1, 0);
    if (code != first.start) return 1;
    memcpy(code, image.data(), image.size());
    for (int i = 0; i < kPerRound; i++) call_generated(first.entry);
    go_away(code, first.bytes, round % 3);
    Library library = load(argv[1]);
    same += library.start == first.start;
    for (int i = 0; i < kPerRound; i++) call_library(library.entry);
    dlclose(library.handle);
  }
  const long calls = long{rounds} * kPerRound;
  expect("plugin_left_site", calls, 200, calls);
  expect_callers("plugin_left_site", "plugin_entry call_library main");
  dprintf(2, "same address in %d of %d rounds\n", same, rounds);
  return same > rounds / 2 ? 0 : 3;   // 3: the loader put it elsewhere, the test would show nothing
}
