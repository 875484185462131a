// Functions that nobody calls, built so that the linker removes them: DWARF describes them all the same, from address 0 on and
// so large that they reach over those that were kept.
#include <cstdlib>

#include "expect.h"

#define FILL(bytes) asm volatile(".skip " #bytes)

extern "C" __attribute__((noipa)) void removed_from_this_file() { FILL(0x8000); }
extern "C" void kept_in_another_file();

// Larger than what was removed, of which the smallest would be taken for this one.
SITE void* site_kept(bool fill) {
  void* block = keep(malloc(64));
  if (fill) FILL(0x20000);
  return block;
}

FRAME void caller_kept() { free(site_kept(false)); }

int main() {
  kept_in_another_file();
  caller_kept();
  expect("site_kept", 1, 64, 1);
  expect_callers("site_kept", "caller_kept main");
}
