// What a thread freed last, by size class, to be given out again before jemalloc is asked: Bonwick and Adams, "Magazines and Vmem", USENIX
// 2001. jemalloc's thread cache behind it does the same; here it takes half the instructions, for a block is kept with its record's place, so
// that the page map need not be asked. To jemalloc these blocks are in use; a thread has 15 KiB of them at most.
//
// Only within the busy state of the thread whose they are. Not for blocks of arenas that the program made itself: it may destroy those.
#pragma once
#include "preload/base/thread_state.h"
#include "preload/heap/page_map.h"

namespace tidemark::heap {

inline constexpr size_t kMagazineMost = 512;   // usable bytes of the largest class
inline constexpr uint32_t kMagazines = 17, kRounds = 16;

struct Round {
  void* block;   // nullptr: the magazine is empty
  std::atomic<Record>* record;
};
// A thread's. Below the lowest round of each magazine lies one without a block.
struct Magazines {
  Round* top[kMagazines];     // what was kept last
  Round* limit[kMagazines];   // no more is kept when the top is not below
};

// jemalloc's classes: 8, 16, then multiples of 16 up to 128, four to a doubling.
struct MagazineTables {
  uint8_t of_size8[kMagazineMost / 8 + 1];   // which magazine, by (size + 7) / 8
  uint8_t most[kMagazines];
  uint16_t floor[kMagazines];   // the round below its lowest one, in MagazineRoom
  uint16_t rounds;              // of all
};
constexpr MagazineTables make_magazine_tables() {
  constexpr uint32_t kMostBytes = 1024;
  MagazineTables m{};
  uint32_t index = 0, number = 0;
  for (uint32_t size = 8; size <= kMagazineMost; number++) {
    for (; index <= size / 8; index++) m.of_size8[index] = uint8_t(number);
    m.most[number] = uint8_t(size * kRounds < kMostBytes ? kRounds : kMostBytes / size);
    m.floor[number] = m.rounds;
    m.rounds = uint16_t(m.rounds + 1 + m.most[number]);
    uint32_t step = 16;
    while (step * 8 <= size) step *= 2;
    size += size == 8 ? 8 : step;
  }
  return m;
}
inline constexpr MagazineTables kMagazineTables = make_magazine_tables();
struct MagazineRoom {
  Magazines magazines;   // first: it stands for the room
  Round all[kMagazineTables.rounds];
};

// Without a block: jemalloc must be asked.
TIDEMARK_INLINE Round take_round(base::ThreadState& t, size_t bytes) {
  if (TIDEMARK_UNLIKELY(bytes > kMagazineMost)) return {nullptr, nullptr};
  Round*& top = t.magazines->top[kMagazineTables.of_size8[(bytes + 7) / 8]];
  Round round = *top;
  if (round.block) top--;
  return round;
}

// False: jemalloc should have it.
TIDEMARK_INLINE bool keep_round(base::ThreadState& t, void* block, std::atomic<Record>* record, uint32_t size8) {
  if (TIDEMARK_UNLIKELY(size8 > kMagazineMost / 8)) return false;
  uint32_t magazine = kMagazineTables.of_size8[size8];
  Round* top = t.magazines->top[magazine];
  if (top >= t.magazines->limit[magazine]) return false;
  *++top = {block, record};
  base::compiler_barrier();   // a handler may jump out of here
  t.magazines->top[magazine] = top;
  return true;
}

void lay_out_magazines(MagazineRoom& fresh);
void have_no_magazines(base::ThreadState& t);
void open_magazines();    // the calling thread may keep blocks from now on, if it has magazines
void drain_magazines();   // it gives back what it has
void empty_magazines();   // and keeps no more
uint32_t rounds_held(const base::ThreadState& t, uint32_t magazine);
// The program makes arenas of its own: no thread keeps blocks from now on. Those that are kept are of jemalloc's own arenas. Any thread, in a hook or
// not.
void forbid_magazines();

}  // namespace tidemark::heap
