// The stack that a thread was walked at last, frame by frame. The next one mostly shares its outer frames, and to see which of them are still there
// takes one comparison each, without a rule or a node: only the frames further in have to be walked.
//
// Why that is certain: what a step over a frame gives depends on the frame's rule, on sp and perhaps rbp as the frame is entered, and on the words
// it reads: the return address, where rbp is saved, where a realigned frame's start is. If all these words, of a frame and all outside of it,
// are what they were, whoever comes to this frame with the same pc, sp and, if that matters, rbp, would take the same steps as then.
#pragma once
#include <cstddef>

#include "preload/base/common.h"
#include "preload/base/thread_state.h"
#include "preload/format/region.h"

namespace tidemark::stacks {

struct alignas(64) Frame {
  address sp, rbp;      // as it is entered
  uint64_t word;        // pc | size << 48, as in a node
  uint64_t sum;         // PathHash::sum of this frame and all outside of it
  address rbp_at;       // where it has saved rbp; 0: it passes it on
  address cfa_at;       // where its own start is kept; 0: it follows from sp or rbp
  uint32_t node;        // which begins with this frame; 0: none, or not known
  uint32_t generation;  // of its module; known once a node was asked for
  uint16_t rule;        // low byte 0: may share a node
  bool after_signal;    // its pc is that of an interrupted instruction
  bool uses_rbp;        // its size follows from rbp
  bool needs_rbp;       // its size, or that of one outside of it, follows from rbp as this one is entered
  uint8_t group;        // how many frames its node has, of which it is the outermost
  bool fixed;           // what it reads lies between its sp and the top of the thread's own stack
};
static_assert(sizeof(Frame) == 64);

inline constexpr uint32_t kMostPathFrames = 253;
inline constexpr uint64_t kLookCloser = uint64_t{1} << 63;   // no bit of a pc

inline constexpr uint32_t kRecent = 256, kFewRecent = 64, kMaxDepth = 512, kMostWalkedFrames = kMaxDepth + kMostPathFrames;
struct Recent {
  uint64_t hash;
  uint32_t stack, epoch;
};
struct Return {
  address at;    // where a frame's pc is found by who returns to it, just inside of its sp
  uint64_t pc;   // | kLookCloser: the next one inwards reads more than that word
};

// Where in a page a path begins, behind what else a thread has: so that what is touched where stacks are of ordinary depth lies in three pages.
inline constexpr uint32_t kPathBegins = 3072;
// A thread's own; only used inside of a hook. Frames are kept from the outermost on.
struct alignas(64) Path {
  uint32_t count, epoch;
  address end_at;       // where the outermost one's return address is 0; 0: its rule says that it is the last
  uint32_t outer;       // node outside of it: kRootNode or kCutNode, for the path is whole
  Recent* many;         // [kRecent] instead of `few`; nullptr: none
  Recent few[kFewRecent];              // stacks found of late, by the hash of their innermost frame
  Return returns[kMostPathFrames];     // of each frame
  char unused[2 * format::kPageBytes - kPathBegins - 32 - sizeof(few) - sizeof(returns)];
  Frame frames[256];                   // more than there may be, so that the next array begins with a page, too
  Frame walked[kMostWalkedFrames];     // the walk under way, from its innermost frame on; the path's that share a node with them behind
};
static_assert(sizeof(Path::frames) / sizeof(Frame) > kMostPathFrames);
static_assert((kPathBegins + offsetof(Path, frames)) % format::kPageBytes == 0 && (kPathBegins + offsetof(Path, walked)) % format::kPageBytes == 0);
inline Recent& recent_of(Path& path, uint64_t hash) { return path.many ? path.many[hash >> 32 & (kRecent - 1)] : path.few[hash >> 32 & (kFewRecent - 1)]; }
// Of the main thread, which mostly does most: others are many, and have less memory.
TIDEMARK_OWN Recent recent_of_main[kRecent];

// How many frames of the path, from the outermost on, the present stack still has if it comes to them. sp: the hook's caller's, within the thread's
// own stack.
uint32_t still_there(const Path& path, address sp);

// Frames further in, `frames` the innermost one: from the outermost on, as long as they are fixed and there is room.
void append(Path& path, const Frame* frames, uint32_t count);

// All paths are forgotten: a module went, or there is another store.
void forget_paths();
uint32_t path_epoch();

}  // namespace tidemark::stacks
