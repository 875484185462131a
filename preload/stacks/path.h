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
#include "preload/stacks/cfi.h"

namespace tidemark::stacks {

// What a path keeps of a frame, beside where its pc was found; distances count from there, in bytes.
struct alignas(32) PathFrame {
  uint64_t sum;          // PathHash::sum of this frame and all outside of it
  uint32_t node;         // which begins with this frame; 0: none, or not known
  uint32_t generation;   // of its module; known once a node was asked for
  int32_t rbp_away;      // rbp as it is entered, if it needs_rbp
  int32_t rbp_saved;     // where it has saved rbp; 0: it passes it on
  uint16_t words;        // its size, as in a node
  uint16_t rule;         // low byte 0: may share a node
  bool after_signal;     // its pc is that of an interrupted instruction
  bool needs_rbp;        // its size, or that of one outside of it, follows from rbp as this one is entered
};
static_assert(sizeof(PathFrame) == 32);

// As a walk finds it: what only the path knows is not set.
struct alignas(64) Frame {
  PathFrame kept;
  address sp, rbp;   // as it is entered
  uint64_t word;     // pc | size << 48, as in a node
  bool uses_rbp;     // its size follows from rbp
  bool fixed;        // what it reads lies between its sp and the top of the thread's own stack, and not gigabytes away
  uint8_t group;     // how many frames its node has, of which it is the outermost
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

// Where in a page a path begins, behind what else a thread has: so that what is touched where stacks are of ordinary depth lies in two pages, of the deepest
// ones in four.
inline constexpr uint32_t kPathBegins = 3072;
inline constexpr uint32_t kPartFrames = 64;
// A thread's own; only used inside of a hook. Frames are kept from the outermost on.
struct alignas(64) Path {
  uint32_t count, epoch;
  address end_at;       // where the outermost one's return address is_no_code; 0: its rule says that it is the last
  uint32_t outer;       // node outside of it: kRootNode or kCutNode, for the path is whole
  Recent* many;         // [kRecent] instead of `few`; nullptr: none
  Recent few[kFewRecent];   // stacks found of late, by the hash of their innermost frame
  struct Part {
    Return returns[kPartFrames];
    PathFrame frames[kPartFrames];
  } parts[4];
  char unused[format::kPageBytes - 32];
  Frame walked[kMostWalkedFrames];   // the walk under way, from its innermost frame on; the path's that share a node with them behind

  // parts[i / kPartFrames].returns[i % kPartFrames], and so the frame: written like that, cc1plus takes 2 % more of the shim's instructions.
  Return& returned(uint32_t i) { return *reinterpret_cast<Return*>(begin() + before_part(i) * sizeof(PathFrame) + i * sizeof(Return)); }
  PathFrame& frame(uint32_t i) { return *reinterpret_cast<PathFrame*>(begin() + sizeof(Part::returns) + before_part(i) * sizeof(Return) + i * sizeof(PathFrame)); }
  const Return& returned(uint32_t i) const { return const_cast<Path*>(this)->returned(i); }
  const PathFrame& frame(uint32_t i) const { return const_cast<Path*>(this)->frame(i); }
  address sp(uint32_t i) const { return returned(i).at + 8; }
  address rbp(uint32_t i) const { return returned(i).at + address(int64_t{frame(i).rbp_away}); }
  address rbp_saved(uint32_t i) const { return frame(i).rbp_saved ? returned(i).at + address(int64_t{frame(i).rbp_saved}) : 0; }
  // Where a realigned frame's own start is kept; 0: it follows from sp or rbp.
  address cfa_at(uint32_t i) const { return kind_of(frame(i).rule) == format::kRuleDeref ? rbp(i) + address(int64_t{int16_t(frame(i).words)} * 8) : 0; }

 private:
  char* begin() { return reinterpret_cast<char*>(parts); }
  static uint64_t before_part(uint32_t i) { return i & ~(kPartFrames - 1); }
};
static_assert(kMostPathFrames < sizeof(Path::parts) / sizeof(Path::Part) * kPartFrames);   // a longest one ends within its page
static_assert((kPathBegins + offsetof(Path, walked)) % format::kPageBytes == 0);
inline Recent& recent_of(Path& path, uint64_t hash) { return path.many ? path.many[hash >> 32 & (kRecent - 1)] : path.few[hash >> 32 & (kFewRecent - 1)]; }
// Of the main thread, which mostly does most: others are many, and have less memory.
TIDEMARK_OWN Recent recent_of_main[kRecent];

inline bool is_near(address distance) { return int64_t(distance) == int32_t(distance); }

// How many frames of the path, from the outermost on, the present stack still has if it comes to them. sp: the hook's caller's, within the thread's
// own stack.
uint32_t still_there(const Path& path, address sp);

// Frames further in, `frames` the innermost one: from the outermost on, as long as they are fixed and there is room.
void append(Path& path, const Frame* frames, uint32_t count);

// All paths are forgotten: a module went, or there is another store.
void forget_paths();
uint32_t path_epoch();

}  // namespace tidemark::stacks
