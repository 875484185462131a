// Metadata beside the heap, by page: page -> {size class, array of 8-byte records}, one record for each block that starts in that
// page; a block of 16 KiB or more has one record of two words. Look-ups take no lock. The map also enumerates live blocks.
#pragma once
#include <atomic>

#include "preload/base/common.h"

namespace tidemark::heap {

// Record: stack id (24 bits) | birth tick << 24 (26 bits) | rounding << 50 (14 bits): usable - requested bytes. 0: not tracked.
// Rounding's top bit is never needed by a block under 16 KiB, but for 8 KiB-aligned empty ones; set, it asks `release` to look
// twice (kWatched): the block may be a link_map.
using Record = uint64_t;
inline constexpr uint32_t kTickMask = (1u << 26) - 1;
inline constexpr Record kWatched = Record{1} << 63;
inline constexpr size_t kLarge = 16384;   // from here on: Record, then the exact requested size
inline uint32_t stack_of_record(Record r) { return r & 0xffffff; }
inline uint32_t tick_of_record(Record r) { return uint32_t(r >> 24) & kTickMask; }
inline uint32_t rounding_of_record(Record r) { return uint32_t(r >> 50); }
inline Record make_record(uint32_t stack, uint32_t tick, uint64_t rounding) {
  return stack | uint64_t{tick} << 38 >> 14 | rounding << 50;
}

// Entry: address of the page's records << 16 | size class / 8 (0: a large block starts here). 0: nothing tracked yet.
using PageEntry = std::atomic<uint64_t>;
inline constexpr uint32_t kPageShift = 12, kLeafShift = 30;
inline constexpr uint32_t kLeafEntries = 1u << (kLeafShift - kPageShift);
inline constexpr uint32_t kTopEntries = 1u << (47 - kLeafShift);
TIDEMARK_OWN std::atomic<PageEntry*> page_top[kTopEntries];
// Behind a leaf's entries: a bit for each page of them that was ever written to. Whoever walks them reads no others: a page of zeros that is
// read gets a place in the page tables, and looks resident.
inline constexpr uint32_t kChunkEntries = 512, kLeafChunks = kLeafEntries / kChunkEntries;
inline std::atomic<uint64_t>& chunk_bits(PageEntry* leaf, uint32_t chunk) { return leaf[kLeafEntries + chunk / 64]; }
inline bool chunk_used(PageEntry* leaf, uint32_t chunk) {
  return chunk_bits(leaf, chunk).load(std::memory_order_acquire) >> chunk % 64 & 1;
}
// 2^32 / size, rounded up, by size / 8. Constant: a process that lives for a millisecond must not compute tables.
struct Reciprocals {
  uint32_t by_8[kLarge / 8 + 1];
};
constexpr Reciprocals make_reciprocals() {
  Reciprocals r{};
  for (uint64_t c = 1; c <= kLarge / 8; c++) r.by_8[c] = uint32_t(((uint64_t{1} << 32) + 8 * c - 1) / (8 * c));
  return r;
}
inline constexpr Reciprocals kReciprocals = make_reciprocals();

inline uint64_t make_entry(const void* records, uint32_t size8) { return reinterpret_cast<uint64_t>(records) << 16 | size8; }
inline uint32_t size8_in(uint64_t entry) { return uint16_t(entry); }
inline std::atomic<Record>* records_in(uint64_t entry) { return reinterpret_cast<std::atomic<Record>*>(entry >> 16); }
inline std::atomic<Record>* record_at_small(uint64_t entry, address block) {   // not in a large block's page
  return records_in(entry) + ((block & 4095) * uint64_t{kReciprocals.by_8[size8_in(entry)]} >> 32);
}
inline std::atomic<Record>* record_at(uint64_t entry, address block) {
  return TIDEMARK_LIKELY(size8_in(entry)) ? record_at_small(entry, block) : records_in(entry);
}

// The page's entry made fit for blocks of this class; 0: no memory. Takes a spin lock.
uint64_t install_page(address block, uint32_t size8);

// For a block just allocated. size8: its usable size / 8, 0 for a large one. nullptr: no memory.
TIDEMARK_INLINE std::atomic<Record>* record_for(address block, uint32_t size8, uint64_t* entry_out = nullptr) {
  PageEntry* leaf = page_top[block >> kLeafShift & (kTopEntries - 1)].load(std::memory_order_acquire);
  uint64_t entry = TIDEMARK_LIKELY(leaf) ? leaf[block >> kPageShift & (kLeafEntries - 1)].load(std::memory_order_relaxed) : 0;
  if (TIDEMARK_UNLIKELY(!entry || size8_in(entry) != size8)) {
    entry = install_page(block, size8);
    if (!entry) return nullptr;
  }
  if (entry_out) *entry_out = entry;
  return record_at(entry, block);
}

// The entry of a block's page, or 0.
TIDEMARK_INLINE uint64_t find_entry(address block) {
  PageEntry* leaf = page_top[block >> kLeafShift & (kTopEntries - 1)].load(std::memory_order_acquire);
  return TIDEMARK_LIKELY(leaf) ? leaf[block >> kPageShift & (kLeafEntries - 1)].load(std::memory_order_relaxed) : 0;
}

// The same without touching what was never written to, for walks over the heap.
inline uint64_t find_entry_quietly(address block) {
  PageEntry* leaf = page_top[block >> kLeafShift & (kTopEntries - 1)].load(std::memory_order_acquire);
  uint32_t index = block >> kPageShift & (kLeafEntries - 1);
  return leaf && chunk_used(leaf, index / kChunkEntries) ? leaf[index].load(std::memory_order_relaxed) : 0;
}

// Calls visit(record, requested bytes) for each tracked block. Racing with the program: a block that comes or goes meanwhile
// may be seen or not.
template <class Visit>
void for_each_block(Visit visit);
// The same, visit(page in which it starts, record, its value, requested bytes).
template <class Visit>
void for_each_block_at(Visit visit);

void lock_page_map();   // around fork
void unlock_page_map();
void reset_page_map_lock();

inline uint32_t records_per_page(uint32_t size8) { return size8 ? (4096 + 8 * size8 - 1) / (8 * size8) : 1; }

template <class Visit>
void for_each_block(Visit visit) {
  for_each_block_at([&](address, std::atomic<Record>& at, Record r, uint64_t bytes) { visit(at, r, bytes); });
}

template <class Visit>
void for_each_block_at(Visit visit) {
  for (uint32_t t = 0; t < kTopEntries; t++) {
    PageEntry* leaf = page_top[t].load(std::memory_order_acquire);
    if (!leaf) continue;
    for (uint32_t i = 0; i < kLeafEntries; i++) {
      if (i % kChunkEntries == 0 && !chunk_used(leaf, i / kChunkEntries)) {
        i += kChunkEntries - 1;
        continue;
      }
      uint64_t entry = leaf[i].load(std::memory_order_acquire);
      if (!entry) continue;
      uint32_t size8 = size8_in(entry), n = records_per_page(size8);
      auto* records = records_in(entry);
      for (uint32_t k = 0; k < n; k++) {
        Record r = records[k].load(std::memory_order_acquire);
        if (!stack_of_record(r)) continue;
        // What was read was a record if the page is still of this class: see install_page.
        if (leaf[i].load(std::memory_order_acquire) != entry) break;
        uint64_t bytes = size8 ? size8 * 8 - (rounding_of_record(r) & 0x1fff) : records[1].load(std::memory_order_relaxed);
        visit(address{t} << kLeafShift | address{i} << kPageShift, records[k], r, bytes);
      }
    }
  }
}

}  // namespace tidemark::heap
