// Calls every form of operator new and delete, most of which are defined to end up in own_operators.cpp's, and says how often those were called. PLUGIN: of
// a program that has its C++ library in itself.
#include <cstdint>
#include <cstdlib>
#include <map>
#include <new>
#include <sstream>
#include <string>

#include "expect.h"
#include "own_operators.h"

static void say(const char* what) { SAY("%s: %ld new, %ld delete\n", what, own_news, own_deletes); }

#ifndef PLUGIN
// Before any constructor, be it a preloaded library's.
static void early(int, char**, char**) {
  delete[] keep(new int[10]);
  delete keep(new long);
}
__attribute__((section(".preinit_array"), used)) static void (*const call_early)(int, char**, char**) = early;
#endif

struct alignas(128) Wide {
  char bytes[384];
};
struct Base {
  virtual ~Base() = default;
  char bytes[92];
};

SITE int* site_array() { return keep(new int[25]); }
SITE void* site_nothrow() { return keep(::operator new(55, std::nothrow)); }

static void each_form() {
  delete keep(new char);
  delete keep(new Base);   // sized
  delete[] site_array();
  delete[] keep(new Base[3]);
  say("plain");
  ::operator delete(site_nothrow(), std::nothrow);
  ::operator delete[](keep(::operator new[](55, std::nothrow)), std::nothrow);
  ::operator delete(keep(::operator new(55)), size_t{55});
  ::operator delete[](keep(::operator new[](55)), size_t{55});
  say("nothrow and sized");
}

static void each_aligned_form() {
  constexpr std::align_val_t k64{64};
  delete keep(new Wide);
  delete[] keep(new Wide[3]);
  ::operator delete(keep(::operator new(640, k64, std::nothrow)), k64, std::nothrow);
  ::operator delete[](keep(::operator new[](640, k64, std::nothrow)), k64, std::nothrow);
  ::operator delete(keep(::operator new(640, k64)), size_t{640}, k64);
  ::operator delete[](keep(::operator new[](640, k64)), size_t{640}, k64);
  void* block = keep(::operator new[](640, k64));
  if (uintptr_t(block) % 64 != 0) abort();
  ::operator delete[](block, k64);
  say("aligned");
}

static void through_the_library() {
  std::map<int, std::string> map;
  for (int i = 0; i < 100; i++) map[i] = std::string(50 + i, 'x');
  std::ostringstream text;
  for (const auto& [key, value] : map) text << key << value;
  SAY("%zu characters\n", text.str().size());
}

#ifdef PLUGIN
extern "C" __attribute__((visibility("default"))) void run() {
  each_form();
  each_aligned_form();
  through_the_library();
  say("in the C++ library");
}
#else
static void failures() {
  static volatile size_t too_much = size_t{1} << 62;
  for (int form = 0; form < 4; form++) {
    try {
      if (form == 0) keep(::operator new(too_much));
      if (form == 1) keep(::operator new[](too_much));
      if (form == 2) keep(::operator new(too_much, std::align_val_t{64}));
      if (form == 3) keep(::operator new[](too_much, std::align_val_t{64}));
    } catch (const std::bad_alloc&) {
      SAY("caught %d\n", form);
    }
  }
  if (::operator new(too_much, std::nothrow) != nullptr || ::operator new[](too_much, std::nothrow) != nullptr) abort();
  if (::operator new[](too_much, std::align_val_t{64}, std::nothrow) != nullptr) abort();
  say("failed");
}

int main() {
  say("early");
  each_form();
  each_aligned_form();
  through_the_library();
  say("in the C++ library");
  failures();
}
#endif
