#include "preload/hooks/foreign_heap.h"

#include <dlfcn.h>

#include "preload/platform/main_executable.h"

namespace tidemark::hooks {

constinit detail::Owners detail::owners = {HeapOwner::kUnknown, OperatorsOwner::kUnknown};

bool detail::ask_heap_owner() {
  if (owners.heap == HeapOwner::kUnknown)
    owners.heap = platform::main_executable_defines("malloc") ? HeapOwner::kProgram : HeapOwner::kShim;
  return owners.heap == HeapOwner::kProgram;
}

namespace {

// The loader may be asked here even from within malloc's kin: its own allocations go to the program's heap, not to us.
void* find(void* handle, const char* name, void** cache) {
  void* found = __atomic_load_n(cache, __ATOMIC_RELAXED);
  if (found == nullptr) {
    found = dlsym(handle, name);
    __atomic_store_n(cache, found, __ATOMIC_RELAXED);
  }
  return found;
}

template <typename Function>
Function program_function(const char* name, void** cache) {
  return reinterpret_cast<Function>(find(RTLD_DEFAULT, name, cache));
}

}  // namespace

void* next_definition(const char* name, void** cache) { return find(RTLD_NEXT, name, cache); }

void* program_malloc(size_t bytes) {
  static constinit void* cache = nullptr;
  return program_function<void* (*)(size_t)>("malloc", &cache)(bytes);
}

void* program_aligned_alloc(size_t alignment, size_t bytes) {
  static constinit void* cache = nullptr;
  auto* posix_memalign = program_function<int (*)(void**, size_t, size_t)>("posix_memalign", &cache);
  if (alignment < sizeof(void*)) alignment = sizeof(void*);
  void* block = nullptr;
  return posix_memalign(&block, alignment, bytes) == 0 ? block : nullptr;
}

void program_free(void* block) {
  static constinit void* cache = nullptr;
  program_function<void (*)(void*)>("free", &cache)(block);
}

}  // namespace tidemark::hooks
