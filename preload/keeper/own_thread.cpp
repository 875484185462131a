#include "preload/keeper/own_thread.h"

#include <link.h>

#include <cstddef>

namespace tidemark::keeper {
namespace {

constinit size_t static_tls = 0;

int add_tls(dl_phdr_info* info, size_t, void* sum) {
  for (int i = 0; i < info->dlpi_phnum; i++)
    if (info->dlpi_phdr[i].p_type == PT_TLS) *static_cast<size_t*>(sum) += info->dlpi_phdr[i].p_memsz + info->dlpi_phdr[i].p_align;
  return 0;
}
}  // namespace

void learn_static_tls() {
  static_tls = 0;
  dl_iterate_phdr(add_tls, &static_tls);
}

bool make_thread(pthread_t& thread, void* (*main)(void*), void* argument) {
  constexpr size_t kStackBytes = 256 << 10;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStackBytes + static_tls);   // glibc takes that out of a thread's stack
  bool made = pthread_create(&thread, &attributes, main, argument) == 0;
  pthread_attr_destroy(&attributes);
  return made;
}

}  // namespace tidemark::keeper
