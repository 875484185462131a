// Stacks made to order: two functions that look alike call one another or themselves, and bit i of `path` says which of them is called
// at depth i. So 2^depth different stacks of one length.
#pragma once

template <int Way, class Innermost>
__attribute__((noinline, noclone)) void two_ways(unsigned depth, unsigned long path, const Innermost& innermost) {
  if (depth == 0) innermost();
  else if (path & 1) two_ways<1>(depth - 1, path >> 1, innermost);
  else two_ways<0>(depth - 1, path >> 1, innermost);
  asm volatile("" ::"i"(Way));   // not a tail call, and not the same code as the other way's
}
