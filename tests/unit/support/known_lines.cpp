#include "tests/unit/support/known_lines.h"

namespace tidemark::test {

namespace {

KnownPlace place;

[[gnu::noinline]] uint64_t who_called(int inlined_line, int outer_line) {
  place = {uint64_t(__builtin_return_address(0)), inlined_line, outer_line};
  return place.return_address;
}

[[gnu::always_inline]] inline uint64_t known_inlined(int outer_line) {
  uint64_t address = who_called(__LINE__, outer_line);
  return address + uint64_t(outer_line);  // no tail call
}

[[gnu::noinline]] uint64_t known_outer() {
  uint64_t sum = known_inlined(__LINE__);
  return sum + 1;
}

}  // namespace

KnownPlace known_place() {
  known_outer();
  return place;
}

}  // namespace tidemark::test
