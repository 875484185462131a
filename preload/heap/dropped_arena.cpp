#include "preload/heap/dropped_arena.h"

#include "preload/base/memory.h"
#include "preload/heap/allocator.h"
#include "preload/heap/inherited.h"
#include "preload/heap/tracker.h"

namespace tidemark::heap {
namespace {

struct Taken {
  std::atomic<Record>* at;
  Record record;
  uint64_t bytes;
};
// Their records, taken out: as soon as the arena is gone its pages may be another one's.
struct TakenBlocks {
  static constexpr size_t kBytes = 64 << 10;
  static constexpr uint32_t kMost = kBytes / sizeof(Taken) - 1;
  TakenBlocks* next;
  uint64_t count;
  Taken blocks[kMost];
};
static_assert(sizeof(TakenBlocks) <= TakenBlocks::kBytes);

void count_dropped(const Taken& block) {
  uint32_t stack = stack_of_record(block.record);
  if (stack < base::store.first_line) count_inherited_free(stack, block.bytes);
  else count_free(stack, block.bytes, (base::header().tick - tick_of_record(block.record)) & kTickMask);
}

// "arenas.lookup", by number.
struct Question {
  size_t mib[2], length = 2;
  Question() { tmje_mallctlnametomib("arenas.lookup", mib, &length); }
  bool lies_in(address page, size_t arena) const {
    auto* block = reinterpret_cast<void*>(page);
    unsigned found = 0;
    size_t bytes = sizeof(found);
    return tmje_mallctlbymib(mib, length, &found, &bytes, &block, sizeof(block)) == 0 && found == arena;
  }
};

// One question a page: all that starts in it is of one arena. Without memory for the list, blocks are counted at once.
TakenBlocks* take_blocks(size_t arena) {
  TakenBlocks* list = nullptr;
  const Question question;
  address asked = 1;   // no page's
  bool inside = false;
  for_each_block_at([&](address page, std::atomic<Record>& at, Record, uint64_t bytes) {
    if (page != asked) inside = question.lies_in(asked = page, arena);
    Record record = inside ? at.exchange(0, std::memory_order_relaxed) : 0;
    if (!record) return;
    if (!list || list->count == TakenBlocks::kMost)
      if (auto* more = static_cast<TakenBlocks*>(base::map_private(TakenBlocks::kBytes))) {
        more->next = list;
        list = more;
      }
    if (!list || list->count == TakenBlocks::kMost) return count_dropped({&at, record, bytes});
    list->blocks[list->count++] = {&at, record, bytes};
  });
  return list;
}

void settle(TakenBlocks* list, bool dropped) {
  while (list) {
    for (uint64_t i = 0; i < list->count; i++) {
      const Taken& block = list->blocks[i];
      if (dropped) count_dropped(block);
      else block.at->store(block.record, std::memory_order_relaxed);
    }
    TakenBlocks* next = list->next;
    base::unmap(list, TakenBlocks::kBytes);
    list = next;
  }
}
}  // namespace

int drop_arena(size_t index, int (*call)(void*), void* argument) {
  base::ThreadState& t = base::thread_state;
  if (t.busy && still_inside(own_sp())) return call(argument);   // a handler, or a function of the program's that jemalloc calls: the lock may be ours
  if (!enter(t) && pass_gate(Call::kOther) == Gate::kPass) {
    int result = -1;
    return base::as_hook([&] { result = without_purge(call, argument); }) ? result : call(argument);
  }
  auto drop = [&] {   // locked first: no block is freed unseen while we wait
    TakenBlocks* list = take_blocks(index);
    int result = call(argument);
    settle(list, result == 0);
    return result;
  };
  int result = without_purge([](void* d) { return (*static_cast<decltype(drop)*>(d))(); }, &drop);
  leave(t);
  return result;
}

}  // namespace tidemark::heap
