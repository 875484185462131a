// The check option: the cached stack against libunwind's own walk.
#include <cerrno>

#include "preload/stacks/lookup.h"
#include "preload/stacks/walk.h"

namespace tidemark::stacks {
using namespace format;

constinit uint32_t check_every = 0;
namespace {
constexpr uint32_t kFrames = 1024;
using Backtrace = int (*)(void**, int);
constinit Backtrace libunwind_backtrace = nullptr;
}  // namespace

void set_checker(int (*backtrace)(void**, int), uint32_t every) {
  libunwind_backtrace = backtrace;
  check_every = backtrace ? every : 0;
  check_places(check_every != 0);
}

TIDEMARK_COLD void check_stack(uint32_t stack, address pc) {
  if (++base::thread_state.check < check_every) return;
  base::thread_state.check = 0;
  uint32_t leaf = base::line<StackRecord>(stack)->leaf_and_kind & 0xffffff;
  if (!leaf) return;   // the overflow stack's
  void* theirs[kFrames];
  address ours[kFrames];
  bool cut;
  uint32_t trusted;
  uint32_t n = frames_of(leaf, ours, kFrames, cut, trusted);
  int saved = errno;
  base::thread_state.internal = 1;   // libunwind's own allocations are not the program's
  int found = libunwind_backtrace(theirs, kFrames), skip = 0;
  base::thread_state.internal = 0;
  errno = saved;
  while (skip < found && reinterpret_cast<address>(theirs[skip]) != pc) skip++;
  base::count(kChecks);
  uint32_t known = uint32_t(found - skip), k = 0;
  uint32_t compared = n < kFrames ? n : kFrames;
  while (k < compared && k < known && ours[k] == reinterpret_cast<address>(theirs[skip + int(k)])) k++;
  bool whole = k == n && k == known;
  bool up_to_a_cut = (cut && k == n) || uint32_t(found) == kFrames || n >= kFrames;
  bool up_to_a_guess = trusted < n && k >= trusted;
  // libunwind gives up where there is no unwind data, and goes on by the frame pointer there: neither is proof against us.
  if (!whole && !(up_to_a_cut && k == (known < compared ? known : compared)) && !up_to_a_guess) base::count(kChecksDisagreed);
}

}  // namespace tidemark::stacks
