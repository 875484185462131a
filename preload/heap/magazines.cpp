#include "preload/heap/magazines.h"

#include "preload/base/jemalloc.h"
#include "preload/heap/threads.h"

namespace tidemark::heap {
namespace {
constinit std::atomic<bool> forbidden{false};

// Of a thread that has none: all are empty, and full.
constexpr Round kNoRound{nullptr, nullptr};
struct NoMagazines : Magazines {
  constexpr NoMagazines() : Magazines{} {
    for (uint32_t m = 0; m < kMagazines; m++) top[m] = limit[m] = const_cast<Round*>(&kNoRound);   // nobody writes to them
  }
};
constinit NoMagazines none;

bool has_none(const base::ThreadState& t) { return !t.magazines || t.magazines == &none; }
void close(base::ThreadState& t) {
  for (uint32_t m = 0; m < kMagazines && !has_none(t); m++) t.magazines->limit[m] = nullptr;
}
Round* floor_in(MagazineRoom& room, uint32_t magazine) { return &room.all[kMagazineTables.floor[magazine]]; }
Round* floor_of(const base::ThreadState& t, uint32_t magazine) { return floor_in(*reinterpret_cast<MagazineRoom*>(t.magazines), magazine); }
}  // namespace

void lay_out_magazines(MagazineRoom& fresh) {
  for (uint32_t m = 0; m < kMagazines; m++) fresh.magazines.top[m] = floor_in(fresh, m);
}
void have_no_magazines(base::ThreadState& t) { t.magazines = &none; }

void open_magazines() {
  base::ThreadState& t = base::thread_state;
  if (has_none(t) || forbidden.load()) return;
  for (uint32_t m = 0; m < kMagazines; m++) t.magazines->limit[m] = floor_of(t, m) + kMagazineTables.most[m];
}

uint32_t rounds_held(const base::ThreadState& t, uint32_t magazine) { return has_none(t) ? 0 : uint32_t(t.magazines->top[magazine] - floor_of(t, magazine)); }

void drain_magazines() {
  base::ThreadState& t = base::thread_state;
  for (uint32_t m = 0; m < kMagazines; m++)
    while (rounds_held(t, m)) tmje_free(t.magazines->top[m]--->block);
}
void empty_magazines() {
  close(base::thread_state);
  drain_magazines();
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
