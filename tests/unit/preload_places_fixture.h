// What tests of places share: a look at the present stack, and what was known of it before.
#pragma once
#include <string>
#include <vector>

#include "preload/stacks/fingerprint.h"
#include "preload/stacks/known_stacks.h"
#include "preload/stacks/layout.h"
#include "preload/stacks/left_alone.h"
#include "preload/stacks/lookup.h"
#include "preload/stacks/path.h"
#include "preload/stacks/walk.h"
#include "tests/unit/preload_fixture.h"

namespace tidemark {
using namespace format;
using namespace stacks;

// With AES and without.
class PlacesTest : public CoreTest, public testing::WithParamInterface<bool> {
 protected:
  void SetUp() override {
    use_aes(GetParam());
    CoreTest::SetUp();
    know_own_stack();
  }
  void TearDown() override {
    CoreTest::TearDown();
    use_aes(true);
  }
};
inline std::string way_name(const testing::TestParamInfo<bool>& info) { return info.param ? "Aes" : "Products"; }

struct Seen {
  uint64_t key;
  uint32_t stack;
  bool known;   // by its place, without a walk
  bool quick;
  Place* home;
};
inline thread_local Seen seen;

inline bool known_here(const Lookup& k) {
  Place* p = find_place(*k.home, k.key);
  for (uint32_t i = 0; p && i < kGroupLines; i++) {
    Place& line = line_of(*k.home, i);
    uint64_t sum, meta = line.meta;
    if (is_of(meta, k.key) && sum_at(line, meta, k.key, k.caller, sum) && (last_stack(line, meta, sum) || known_stack(fingerprint_of(sum, line.layout)))) return true;
  }
  return false;
}

__attribute__((noinline)) inline void look() {
  Lookup k = begin_lookup(HERE);
  seen.known = known_here(k);
  seen.quick = is_quick(k.home->meta, k.key);
  seen.home = k.home;
  seen.key = k.key;
  seen.stack = find_stack(k);
}

// The outer function's frame takes what the inner one's leaves: whatever the split is, look() is called from one place.
template <size_t kBytes>
__attribute__((noinline)) void inner(void (*call)()) {
  [[maybe_unused]] volatile char frame[kBytes];
  frame[0] = 0;
  call();
  frame[kBytes - 1] = 0;
}
__attribute__((noinline)) inline void last_call() {
  look();
  asm volatile("");
}
template <size_t kBytes>
__attribute__((noinline)) void outer() {
  [[maybe_unused]] volatile char frame[4096 - kBytes];
  frame[0] = 0;
  inner<kBytes>(last_call);
  frame[4096 - kBytes - 1] = 0;
}

inline std::vector<address> path_of(uint32_t stack) {
  std::vector<address> pcs(4096);
  bool cut;
  uint32_t trusted;
  pcs.resize(frames_of(base::line<StackRecord>(stack)->leaf_and_kind & 0xffffff, pcs.data(), 4096, cut, trusted));
  return pcs;
}

__attribute__((noinline)) inline void deeper(int depth) {
  if (depth) deeper(depth - 1);
  else look();
  asm volatile("");
}

// One call, so that it is one stack: `before` each look that is made, `after` it.
template <class Before, class After>
void look_often(int rounds, void (*call)(), Before before, After after) {
  for (volatile int round = 0; round < rounds; round = round + 1) {
    before(round);
    call();
    after(round);
  }
}

}  // namespace tidemark
