#include "preload/heap/magazines.h"

#include "preload/base/jemalloc.h"
#include "preload/heap/threads.h"

namespace tidemark::heap {
namespace {
constinit std::atomic<bool> forbidden{false};

void close(base::ThreadState& t) {
  for (uint8_t& most : t.most) most = 0;
}
}  // namespace

void open_magazines() {
  base::ThreadState& t = base::thread_state;
  if (!t.rounds || forbidden.load()) return;
  for (uint32_t m = 0; m < kMagazines; m++) t.most[m] = kMagazineTables.most[m];
}

void empty_magazines() {
  base::ThreadState& t = base::thread_state;
  close(t);
  for (uint32_t m = 0; m < kMagazines; m++)
    while (t.held[m]) tmje_free(t.rounds[m * kRounds + --t.held[m]].block);
}

void forbid_magazines() {
  base::ThreadState& t = base::thread_state;
  if (forbidden.load() || t.busy) return;   // a handler inside of the allocator gets no block of an arena
  base::enter_busy();
  forbidden.store(true);
  for_each_thread(close);
  t.busy = 0;
}
}  // namespace tidemark::heap
