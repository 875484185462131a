#include "preload/heap/page_map.h"

#include <cstring>

#include "preload/base/memory.h"
#include "preload/base/spin_lock.h"

namespace tidemark::heap {

constinit std::atomic<PageEntry*> page_top[kTopEntries]{};

namespace {
constexpr size_t kPoolBytes = 4 << 20;
constexpr uint32_t kMaxRecords = 513;
constinit base::SpinLock pool_lock;
constinit char *pool = nullptr, *pool_end = nullptr;
constinit void* free_lists[kMaxRecords]{};   // by number of records

uint32_t array_records(uint32_t size8) { return size8 ? records_per_page(size8) : 2; }

// pool_lock is held. Zero-filled.
void* take_array(uint32_t records) {
  if (void* p = free_lists[records]) {
    free_lists[records] = *static_cast<void**>(p);
    memset(p, 0, records * sizeof(Record));   // a host may have reset an arena behind our back: its records were never cleared
    return p;
  }
  size_t bytes = records * sizeof(Record);
  if (size_t(pool_end - pool) < bytes) {
    pool = static_cast<char*>(base::map_private(kPoolBytes));
    pool_end = pool ? pool + kPoolBytes : nullptr;
    if (!pool) return nullptr;
  }
  void* p = pool;
  pool += bytes;
  return p;
}

PageEntry* leaf_for(address block) {
  auto& slot = page_top[block >> kLeafShift & (kTopEntries - 1)];
  PageEntry* leaf = slot.load(std::memory_order_acquire);
  if (leaf) return leaf;
  leaf = static_cast<PageEntry*>(base::map_private((kLeafEntries + kLeafChunks / 64) * sizeof(PageEntry)));
  if (leaf) slot.store(leaf, std::memory_order_release);
  return leaf;
}
}  // namespace

// The old array can be given to another page at once: this page held no live block of the old class any more, and whoever frees
// a block clears its record before jemalloc gets it back. Who walks over the blocks may be reading it: what it finds there that is no record was
// written after the page's new entry.
TIDEMARK_COLD uint64_t install_page(address block, uint32_t size8) {
  base::SpinGuard guard(pool_lock);
  PageEntry* leaf = leaf_for(block);
  if (!leaf) return 0;
  PageEntry& slot = leaf[block >> kPageShift & (kLeafEntries - 1)];
  uint64_t old = slot.load(std::memory_order_relaxed);
  if (old && size8_in(old) == size8) return old;
  void* array = take_array(array_records(size8));
  if (!array) return 0;
  uint64_t entry = make_entry(array, size8);
  slot.store(entry, std::memory_order_release);
  uint32_t chunk = uint32_t(&slot - leaf) / kChunkEntries;
  chunk_bits(leaf, chunk).fetch_or(uint64_t{1} << chunk % 64, std::memory_order_release);
  if (old) {
    auto* freed = reinterpret_cast<void**>(records_in(old));
    uint32_t records = array_records(size8_in(old));
    *freed = free_lists[records];
    free_lists[records] = freed;
  }
  return entry;
}

void lock_page_map() { pool_lock.lock(); }
void unlock_page_map() { pool_lock.unlock(); }
void reset_page_map_lock() { pool_lock.reset(); }

}  // namespace tidemark::heap
