#include "preload/hooks/cpp_runtime.h"

#include <dlfcn.h>
#include <link.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "preload/hooks/alignment.h"
#include "preload/hooks/real.h"

namespace tidemark::hooks {
namespace {

using NewHandler = void (*)();

const link_map* module_of(const void* code) {
  dl_find_object found;
  return _dl_find_object(const_cast<void*>(code), &found) == 0 ? found.dlfo_link_map : nullptr;
}

// What is needed each time, as the modules find it that the program starts with: these stay, and their scope does. So an operator new that fails there asks
// the loader nothing, whose lock another thread may hold, or have held when it was forked.
enum Needed : uint32_t { kGetNewHandler, kThrowBadAlloc, kNeeded };
constexpr const char* kNames[kNeeded] = {"_ZSt15get_new_handlerv", "_ZSt17__throw_bad_allocv"};
constexpr uint32_t kMostModules = 512;
constinit const link_map* started_with[kMostModules] = {};
constinit uint32_t started_count = 0;
constinit void* known[kNeeded] = {};

bool was_there_at_start(const link_map* module) {
  for (uint32_t i = 0; i < started_count; i++)
    if (started_with[i] == module) return true;
  return false;
}

// A module that is loaded already, for the duration of a look-up in its scope.
class LoadedModule {
 public:
  // The module that this code belongs to.
  static void* open_by_code(const void* code) {
    const link_map* module = module_of(code);
    return module == nullptr ? nullptr : open_by_name(module->l_name);  // the executable's name is empty
  }
  static void* open_by_name(const char* name) { return real::dlopen()(*name == '\0' ? nullptr : name, RTLD_NOLOAD | RTLD_LAZY); }

  explicit LoadedModule(void* handle) : handle_(handle) {}
  void close() const {
    if (handle_ != nullptr) dlclose(handle_);
  }
  void* find(const char* symbol) const { return handle_ == nullptr ? nullptr : dlsym(handle_, symbol); }

 private:
  void* handle_;  // no destructor: one would need a C++ runtime's personality routine in every frame that a throw passes
};

// A process may hold several C++ libraries (or none in the global scope, when it loaded one by dlopen): first the one that the
// caller of operator new itself is bound to.
void* find_in_cpp_runtime(const heap::Caller& caller, const char* symbol) {
  const auto found_in = [symbol](void* handle) {
    const LoadedModule module(handle);
    void* address = module.find(symbol);
    module.close();  // whoever keeps the library loaded still does: the caller is bound to it
    return address;
  };
  if (void* address = found_in(LoadedModule::open_by_code(reinterpret_cast<const void*>(caller.pc)))) return address;
  if (void* address = dlsym(RTLD_DEFAULT, symbol)) return address;
  if (void* address = found_in(LoadedModule::open_by_name("libstdc++.so.6"))) return address;
  return found_in(LoadedModule::open_by_name("libc++abi.so.1"));
}

void* find_in_cpp_runtime(const heap::Caller& caller, Needed needed) {
  if (known[needed] != nullptr && was_there_at_start(module_of(reinterpret_cast<const void*>(caller.pc)))) return known[needed];
  return find_in_cpp_runtime(caller, kNames[needed]);
}

template <typename Function>
Function find_function(const heap::Caller& caller, Needed needed) {
  return reinterpret_cast<Function>(find_in_cpp_runtime(caller, needed));
}
template <typename Function>
Function find_function(const heap::Caller& caller, const char* symbol) {
  return reinterpret_cast<Function>(find_in_cpp_runtime(caller, symbol));
}

NewHandler new_handler(const heap::Caller& caller) {
  auto* get_new_handler = find_function<NewHandler (*)()>(caller, kGetNewHandler);
  return get_new_handler == nullptr ? nullptr : get_new_handler();
}

// `throw std::bad_alloc()`, spelled with the C++ ABI's own calls.
void throw_bad_alloc_by_abi(const heap::Caller& caller) {
  auto* allocate = find_function<void* (*)(size_t)>(caller, "__cxa_allocate_exception");
  auto* raise = find_function<void (*)(void*, void*, void (*)(void*))>(caller, "__cxa_throw");
  void* type = find_in_cpp_runtime(caller, "_ZTISt9bad_alloc");
  auto* vtable = static_cast<char*>(find_in_cpp_runtime(caller, "_ZTVSt9bad_alloc"));
  auto* destroy = find_function<void (*)(void*)>(caller, "_ZNSt9bad_allocD1Ev");
  if (allocate == nullptr || raise == nullptr || type == nullptr || vtable == nullptr || destroy == nullptr) return;
  void* exception = allocate(sizeof(void*));  // bad_alloc has no member but its vtable pointer
  *static_cast<char**>(exception) = vtable + 2 * sizeof(void*);
  raise(exception, type, destroy);
}

[[noreturn]] void throw_bad_alloc(const heap::Caller& caller) {
  if (auto* raise = find_function<void (*)()>(caller, kThrowBadAlloc)) raise();
  throw_bad_alloc_by_abi(caller);
  abort();  // no C++ library in sight: nobody could catch, and this is what std::terminate would do
}

}  // namespace

bool is_cpp_runtime(const link_map& module) {
  return strstr(module.l_name, "/libstdc++.so") != nullptr || strstr(module.l_name, "/libc++.so") != nullptr || strstr(module.l_name, "/libc++abi.so") != nullptr;
}

void learn_cpp_runtime() {
  const link_map* module = module_of(reinterpret_cast<const void*>(&learn_cpp_runtime));
  while (module != nullptr && module->l_prev != nullptr) module = module->l_prev;
  bool there = false;
  for (; module != nullptr && started_count < kMostModules; module = module->l_next) {
    there |= is_cpp_runtime(*module);
    started_with[started_count++] = module;
  }
  for (uint32_t i = 0; there && i < kNeeded; i++) known[i] = dlsym(RTLD_DEFAULT, kNames[i]);
}

void* new_after_failure(const NewRequest& request) {
  while (is_power_of_two(request.alignment)) {
    const NewHandler handler = new_handler(request.caller);
    if (handler == nullptr) break;
    handler();
    if (void* block = request.attempt(request)) return block;
  }
  throw_bad_alloc(request.caller);
}

namespace {

// The handler may throw, and in the nothrow forms the throw must end. Catching takes a C++ runtime's personality routine; the
// program's library has exactly the function needed: its own nothrow form, which calls operator new (ours) inside a try block.
// Null when there is no handler, which makes a second attempt pointless.
void* find_catching_form(const NewRequest& request, const char* form) {
  if (!is_power_of_two(request.alignment)) return nullptr;
  auto* get_new_handler = find_function<NewHandler (*)()>(request.caller, kGetNewHandler);
  if (get_new_handler == nullptr || get_new_handler() == nullptr) return nullptr;

  const LoadedModule library(LoadedModule::open_by_code(reinterpret_cast<const void*>(get_new_handler)));
  void* found = library.find(form);
  library.close();
  const auto* own_code = reinterpret_cast<const void*>(&find_catching_form);
  return found != nullptr && module_of(found) != module_of(own_code) ? found : nullptr;
}

}  // namespace

void* nothrow_new_after_failure(const NewRequest& request, const char* form) {
  void* found = find_catching_form(request, form);
  const char nothrow = 0;  // std::nothrow_t has no members
  return found == nullptr ? nullptr : reinterpret_cast<void* (*)(size_t, const char*)>(found)(request.bytes, &nothrow);
}

void* nothrow_aligned_new_after_failure(const NewRequest& request, const char* form) {
  void* found = find_catching_form(request, form);
  const char nothrow = 0;
  if (found == nullptr) return nullptr;
  return reinterpret_cast<void* (*)(size_t, size_t, const char*)>(found)(request.bytes, request.alignment, &nothrow);
}

}  // namespace tidemark::hooks
