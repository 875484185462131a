#include "preload/keeper/own_thread.h"

#include <cstddef>

namespace tidemark::keeper {

bool make_thread(pthread_t& thread, void* (*main)(void*), void* argument) {
  constexpr size_t kStackBytes = 256 << 10;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  bool made = pthread_create(&thread, &attributes, main, argument) == 0;
  pthread_attr_destroy(&attributes);
  return made;
}

}  // namespace tidemark::keeper
