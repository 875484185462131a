// A walk of the present stack by rules, from a hook's caller outwards, added to the frame tree; it stops as soon as it meets a
// known path. Whole when that happens, or within kMinDepth frames; a deeper stack that joins nothing is cut (kCutNode).
#pragma once
#include "preload/stacks/path.h"

namespace tidemark::stacks {

inline constexpr uint32_t kMinDepth = 256;   // the most: kMaxDepth

uint32_t walk(address pc, address sp, address rbp);   // leaf node, or kNoNode
enum class Sight {
  kNoPath,   // not a stack of the thread's own, or too deep or not regular enough: what the thread's path is says nothing of it
  kKnown,
  kFirst,    // never seen before
};
// By way of the thread's path, which is this stack's then: its record, Header::overflow_stack when there is no room; 0 with kNoPath.
uint32_t walk_to_stack(const Caller& caller, Sight& sight);
void reset_walk_buffers();                            // child of fork

// The path's frames as return addresses, innermost first; returns how many there are. `trusted`: how many of them rest on unwind
// data alone (frames from the first guessed or cut one on do not).
uint32_t frames_of(uint32_t leaf, address* pcs, uint32_t max, bool& cut, uint32_t& trusted);

}  // namespace tidemark::stacks
