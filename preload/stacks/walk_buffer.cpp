#include "preload/stacks/walk_buffer.h"

#include "preload/stacks/walk.h"

namespace tidemark::stacks {

constinit WalkFrames walk_buffers[kBuffers]{};

void reset_walk_buffers() {
  for (WalkFrames& b : walk_buffers) b.taken.store(nullptr, std::memory_order_relaxed);
}

}  // namespace tidemark::stacks
