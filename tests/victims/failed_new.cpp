// An operator new that fails while another thread holds the loader's lock: the one that loads this as a plugin, and waits for it in a constructor.
//
//   failed_new PLUGIN    built twice: as the program, and (FAILED_NEW_PLUGIN) as the plugin
#include <dlfcn.h>
#include <new>
#include <pthread.h>

#include "expect.h"

extern "C" void* ask_for_too_much(void*);

#ifdef FAILED_NEW_PLUGIN
__attribute__((constructor)) static void wait_for_a_thread() {
  pthread_t thread;
  pthread_create(&thread, nullptr, ask_for_too_much, nullptr);
  pthread_join(thread, nullptr);
}
#else
static volatile size_t too_much = size_t{1} << 62;
__attribute__((visibility("default"))) void* ask_for_too_much(void*) {
  void* block = ::operator new(too_much, std::nothrow);
  try {
    keep(::operator new(too_much));
  } catch (const std::bad_alloc&) {
    SAY("caught\n");
  }
  return keep(block);
}

int main(int, char** arguments) { return dlopen(arguments[1], RTLD_NOW) != nullptr ? 0 : 3; }
#endif
