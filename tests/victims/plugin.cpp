// Libraries that dlclosed.cpp and dl_same_address.cpp load. PLUGIN_SITE names the allocating function; PLUGIN_FRAME makes its
// stack frame larger, so that two builds of equal size differ in what an unwinder must do at the same address.
#include <cstdlib>
#include <cstring>

#include "expect.h"

#ifndef PLUGIN_FRAME
#define PLUGIN_FRAME 16
#endif

SITE void* PLUGIN_SITE(size_t size) {
  volatile char room[PLUGIN_FRAME];
  room[0] = 1;
  void* p = keep(malloc(size));
  return room[0] ? p : nullptr;
}

SITE void* plugin_entry(size_t size) {
  volatile char room[PLUGIN_FRAME / 2];
  room[0] = 1;
  void* p = keep(PLUGIN_SITE(size));
  return room[0] ? p : nullptr;
}
