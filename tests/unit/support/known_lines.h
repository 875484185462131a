// Code addresses whose function and line are known.
#pragma once
#include <cstdint>

namespace tidemark::test {

struct KnownPlace {
  uint64_t return_address;  // of a call in known_inlined(), which is inlined into known_outer()
  int inlined_line;         // of that call
  int outer_line;           // of the call of known_inlined()
};
KnownPlace known_place();

}  // namespace tidemark::test
