// C++ exceptions through frames that allocate in their body, in destructors during unwinding, and in the handler.
#include <cstdlib>
#include <exception>
#include <stdexcept>

#include "expect.h"

SITE void* site_in_body() { return keep(malloc(112)); }
SITE void* site_in_destructor() { return keep(malloc(144)); }
SITE void* site_in_handler() { return keep(malloc(176)); }

struct Guard {
  void* block = site_in_body();
  ~Guard() {
    free(block);
    if (std::uncaught_exceptions() > 0) free(site_in_destructor());
  }
};

FRAME void descend(int depth) {
  Guard guard;
  if (depth == 0) throw std::runtime_error("a text that is longer than a small string, so that it is allocated");
  descend(depth - 1);
}

int main() {
  for (int i = 0; i < 1000; i++) {
    try {
      descend(i % 10);
    } catch (const std::exception&) {
      void* block = site_in_handler();
      if (i % 4) free(block);
      if (std::uncaught_exceptions() != 0) return 2;
    }
  }
  long frames = 1000 / 10 * (1 + 2 + 3 + 4 + 5 + 6 + 7 + 8 + 9 + 10);
  expect("site_in_body", frames, 112, frames);
  expect("site_in_destructor", frames, 144, frames);
  expect("site_in_handler", 1000, 176, 750);
  expect_callers("site_in_handler", "main");
}
