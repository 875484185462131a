// Operators new and delete of a program's or a library's own: of each kind the two that the standard's others are defined to call.
// Which, says how this is compiled: OWN_SCALAR, OWN_ARRAY, OWN_ALIGNED. OWN_HOST: the program, whose plugin calls them.
#include "own_operators.h"

#include <cstdint>
#include <cstdlib>
#include <new>

long own_news, own_deletes;

namespace {
struct Header {
  uint64_t mark;
  void* block;
};
constexpr uint64_t kMark = 0x6f776e6f776e;

[[maybe_unused]] void* take(size_t bytes, size_t alignment) {
  own_news++;
  if (bytes > size_t{1} << 40) throw std::bad_alloc();
  void* block = malloc(bytes + alignment + sizeof(Header));
  if (block == nullptr) throw std::bad_alloc();
  const uintptr_t given = (reinterpret_cast<uintptr_t>(block) + sizeof(Header) + alignment - 1) / alignment * alignment;
  reinterpret_cast<Header*>(given)[-1] = {kMark, block};
  return reinterpret_cast<void*>(given);
}
[[maybe_unused]] void give_back(void* given) {
  if (given == nullptr) return;
  Header& header = static_cast<Header*>(given)[-1];
  if (header.mark != kMark) abort();   // somebody else's
  header.mark = 0;
  own_deletes++;
  free(header.block);
}
}  // namespace

#ifdef OWN_SCALAR
__attribute__((noipa)) void* operator new(size_t bytes) { return take(bytes, 16); }
__attribute__((noipa)) void operator delete(void* block) noexcept { give_back(block); }
#endif
#ifdef OWN_ARRAY
__attribute__((noipa)) void* operator new[](size_t bytes) { return take(bytes, 16); }
__attribute__((noipa)) void operator delete[](void* block) noexcept { give_back(block); }
#endif
#ifdef OWN_ALIGNED
__attribute__((noipa)) void* operator new(size_t bytes, std::align_val_t alignment) { return take(bytes, size_t(alignment)); }
__attribute__((noipa)) void operator delete(void* block, std::align_val_t) noexcept { give_back(block); }
#endif

#ifdef OWN_HOST
#include <dlfcn.h>

int main(int, char** arguments) {
  void* plugin = dlopen(arguments[1], RTLD_NOW);
  if (plugin == nullptr) return 3;
  reinterpret_cast<void (*)()>(dlsym(plugin, "run"))();
  return 0;
}
#endif
