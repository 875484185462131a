// operator new and delete: plain, array, nothrow, aligned, sized, through a class with a virtual destructor, and a failed new
// that calls the program's own new-handler and throws.
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <new>

#include "expect.h"

struct alignas(128) Wide {
  char bytes[384];
};
struct Base {
  virtual ~Base() = default;
  char bytes[92];
};
struct Derived : Base {
  ~Derived() override = default;
  char more[200];
};

SITE char* site_new() { return keep(new char); }
SITE int* site_new_array() { return keep(new int[25]); }
SITE void* site_nothrow() { return keep(::operator new(55, std::nothrow)); }
SITE Wide* site_aligned() { return keep(new Wide); }
SITE Wide* site_aligned_array() { return keep(new Wide[3]); }
SITE void* site_plain_call() { return keep(::operator new(123)); }
SITE Base* site_virtual() { return keep(static_cast<Base*>(new Derived)); }
SITE void* site_aligned_nothrow() { return keep(::operator new(640, std::align_val_t(64), std::nothrow)); }

static int handler_calls;
static void handler() {
  handler_calls++;
  std::set_new_handler(nullptr);
}
SITE void site_fails() {
  volatile size_t too_much = PTRDIFF_MAX;
  std::set_new_handler(handler);
  try {
    keep(::operator new(too_much));
    abort();
  } catch (const std::bad_alloc&) {
    if (std::uncaught_exceptions() != 0) abort();
  }
  if (::operator new(too_much, std::nothrow) != nullptr) abort();
}

int main() {
  for (int i = 0; i < 400; i++) {
    char* a = site_new();
    int* b = site_new_array();
    void* c = site_nothrow();
    Wide* d = site_aligned();
    Wide* e = site_aligned_array();
    void* f = site_plain_call();
    Base* g = site_virtual();
    void* h = site_aligned_nothrow();
    if (uintptr_t(d) % 128 || uintptr_t(e) % 128 || uintptr_t(h) % 64) abort();
    if (i % 2) delete a;
    if (i % 4 == 0) delete[] b;
    if (i % 5 == 0) ::operator delete(c, std::nothrow);
    if (i % 8 == 0) delete d;
    if (i % 10 == 0) delete[] e;
    if (i % 16 == 0) ::operator delete(f, size_t(123));
    if (i % 20 == 0) delete g;
    if (i % 25 == 0) ::operator delete(h, std::align_val_t(64));
  }
  expect("site_new", 400, 1, 200);
  expect("site_new_array", 400, 100, 100);
  expect("site_nothrow", 400, 55, 80);
  expect("site_aligned", 400, sizeof(Wide), 50);
  expect("site_aligned_array", 400, 3 * sizeof(Wide), 40);
  expect("site_plain_call", 400, 123, 25);
  expect("site_virtual", 400, sizeof(Derived), 20);
  expect("site_aligned_nothrow", 400, 640, 16);
  for (int i = 0; i < 3; i++) site_fails();
  if (handler_calls != 3) abort();
  expect("site_fails", 0, 0, 0);   // the exception object comes from libstdc++'s own frame
}
