#include "preload/base/store.h"

#include <algorithm>
#include <cstring>

#include "preload/base/memory.h"
#include "preload/base/own_mappings.h"

namespace tidemark::base {
using namespace format;

constinit Store store{};

namespace {
constexpr uint64_t kOpenStep = 1 << 20;
constexpr uint32_t kTextMax = 4000;
constexpr uint64_t kClosed = uint64_t{1} << 63;
constexpr uint64_t kChunk = 16;   // pages that are touched ahead at once

struct Cursor {
  uint32_t next, end;   // line ids
};
constinit Cursor cursors[16]{};
constinit uint64_t text_next = 0, text_end = 0;
constinit SpinLock cursor_lock;

bool open_up_to(Store& s, uint64_t end) {
  uint64_t opened = s.opened.load(std::memory_order_acquire);
  if (end <= opened) return true;
  uint64_t wanted = (end + kOpenStep - 1) / kOpenStep * kOpenStep;
  if (wanted > s.bytes) wanted = s.bytes;
  if (!open_memory(s.start + opened, wanted - opened)) return false;
  while (opened < wanted && !s.opened.compare_exchange_weak(opened, wanted)) {}
  return true;
}

// Pages that `kind` must leave free, and how many it may have at most: call stacks come first, but modules, threads and text
// need little and matter.
struct Budget {
  uint64_t leave, at_most;
};
Budget budget_of(PageKind kind, uint64_t pages) {
  switch (kind) {
    case PageKind::kNodes:
    case PageKind::kStacks: return {pages / 32, pages};
    case PageKind::kShared: return {pages / 32, pages / 4};
    case PageKind::kDetails: return {pages / 32, pages / 8};
    case PageKind::kPoints: return {0, pages / 16};   // fewer, wider points in a small region
    default: return {0, pages};
  }
}
constinit std::atomic<uint64_t> pages_taken[16]{};
}  // namespace

bool format_store(Store& s, char* start, uint64_t bytes, uint32_t first_line) {
  s.start = start;
  s.lines = start - uint64_t{first_line} * kLineBytes;
  s.bytes = bytes;
  s.first_line = first_line;
  s.first_stack = first_line ? first_line : 1;
  s.opened.store(0);
  uint64_t pages = bytes / kPageBytes, directory_pages = (pages + kPageBytes - 1) / kPageBytes;
  if (!open_up_to(s, (1 + directory_pages) * kPageBytes)) return false;
  constexpr uint64_t kFirstPages = 7;   // stacks, shared counters, threads, text, modules, nodes: at once in any process
  populate_file(start, (1 + directory_pages + kFirstPages) * kPageBytes);
  Header& h = *reinterpret_cast<Header*>(start);
  h.version = kVersion;
  h.header_bytes = sizeof(Header);
  h.endian = kEndianMark;
  h.page_bytes = kPageBytes;
  h.line_bytes = kLineBytes;
  h.ticks_per_second = kTicksPerSecond;
  h.region_bytes = bytes;
  h.used_pages = 1 + directory_pages;
  s.next_page.store(1 + directory_pages);
  s.closed_at.store(0);
  h.directory_offset = kPageBytes;
  h.directory_bytes = pages;
  h.first_line = first_line;
  memcpy(h.records, kRecords, sizeof(kRecords));
  auto* directory = reinterpret_cast<uint8_t*>(start + kPageBytes);
  directory[0] = uint8_t(PageKind::kHeader);
  memset(directory + 1, int(PageKind::kDirectory), directory_pages);
  memcpy(h.magic, kMagic, sizeof(kMagic));
  return true;
}

// Faults come a chunk at a time, not a page: a third of their cost.
static void touch_ahead(uint64_t first, uint32_t n) {
  uint64_t begin = (first + kChunk - 1) / kChunk * kChunk;
  if (begin >= first + n) return;
  uint64_t end = (begin + kChunk) * kPageBytes, opened = store.opened.load(std::memory_order_acquire);
  if (end <= opened) populate_file(store.start + begin * kPageBytes, kChunk * kPageBytes);
}

// The one that took fewer may be later.
static void raise_used_pages(uint64_t pages) {
  uint64_t& used = header().used_pages;
  uint64_t seen = __atomic_load_n(&used, __ATOMIC_RELAXED);
  while (seen < pages && !__atomic_compare_exchange_n(&used, &seen, pages, true, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
  }
}

uint32_t take_pages(PageKind kind, uint32_t n) {
  Header& h = header();
  uint64_t pages = store.bytes / kPageBytes;
  Budget budget = budget_of(kind, pages);
  if (pages_taken[uint32_t(kind)].load(std::memory_order_relaxed) + n > budget.at_most) return 0;
  uint64_t next = store.next_page.load(std::memory_order_acquire), first;
  do {
    first = next & ~kClosed;
    if (next & kClosed && first + n > store.closed_at.load(std::memory_order_acquire)) return 0;
    if (first + n + budget.leave > pages) return 0;
    if (store.first_line + (first + n) * kLinesPerPage > kMaxLineId) return 0;
    if (!open_up_to(store, (first + n) * kPageBytes)) return 0;
  } while (!store.next_page.compare_exchange_weak(next, next + n, std::memory_order_acq_rel, std::memory_order_acquire));
  raise_used_pages(first + n);
  pages_taken[uint32_t(kind)].fetch_add(n, std::memory_order_relaxed);
  touch_ahead(first, n);
  auto* directory = reinterpret_cast<uint8_t*>(store.start + h.directory_offset);
  for (uint32_t i = 0; i < n; i++) __atomic_store_n(&directory[first + i], uint8_t(kind), __ATOMIC_RELEASE);
  return uint32_t(first);
}

// What is taken and what closes change one word: either a page was taken before, or who takes it sees where the end is now (0 until it is known). What is
// touched ahead of a taken page (touch_ahead; format_store's first pages) lies within a chunk behind it.
uint64_t close_store() {
  constexpr uint64_t kHeadroom = (1 << 20) / kPageBytes;
  uint64_t pages = store.bytes / kPageBytes, taken = store.next_page.fetch_or(kClosed, std::memory_order_acq_rel);
  if (taken & kClosed) return 0;
  store.closed_at.store(taken + kHeadroom, std::memory_order_release);
  uint64_t end = taken + kHeadroom + kChunk;
  return end < pages ? end : pages;
}

bool leave_shared_store() {
  const uint64_t in_use = std::min(store.next_page.load(std::memory_order_acquire) & ~kClosed, store.bytes / kPageBytes) * kPageBytes;
  void* copy = own_mmap(nullptr, store.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (copy == MAP_FAILED) return false;
  memcpy(copy, store.start, in_use);
  if (own_mremap(copy, store.bytes, store.bytes, MREMAP_MAYMOVE | MREMAP_FIXED, store.start) != MAP_FAILED) return true;
  own_munmap(copy, store.bytes);
  return false;
}

// Without the lock, which the interrupted call may hold: where it stood in take_lines, a cursor may pass its end by what it takes there.
void give_up_shared_store() {
  store.next_page.fetch_or(kClosed, std::memory_order_acq_rel);
  store.closed_at.store(0, std::memory_order_release);
  for (Cursor& c : cursors) c.next = c.end;
  text_end = 0;
}

uint32_t take_lines(PageKind kind, uint32_t n) {
  SpinGuard guard(cursor_lock);
  Cursor& c = cursors[uint32_t(kind)];
  if (c.next + n > c.end) {
    uint32_t page = take_pages(kind, 1);
    if (!page) return 0;
    c.next = store.first_line + page * kLinesPerPage;
    c.end = c.next + (kind == PageKind::kStacks ? kStacksPerPage : kLinesPerPage);
  }
  uint32_t id = c.next;
  c.next += n;
  return id;
}

bool is_half_taken(PageKind kind) {
  uint64_t taken = pages_taken[uint32_t(kind)].load(std::memory_order_relaxed);
  return taken * 2 >= budget_of(kind, store.bytes / kPageBytes).at_most;
}

uint32_t take_stack() { return take_lines(PageKind::kStacks, 1); }

TextRef take_text(const char* text, size_t length) {
  if (!length) return {0, 0};
  if (length > kTextMax) {
    length = kTextMax;
    count(kTextTruncated);
  }
  SpinGuard guard(cursor_lock);
  if (text_next + length > text_end) {
    uint32_t page = take_pages(PageKind::kText, 1);
    if (!page) return {0, 0};
    text_next = uint64_t{page} * kPageBytes;
    text_end = text_next + kPageBytes;
  }
  TextRef ref{uint32_t(text_next), uint32_t(length)};
  memcpy(store.start + text_next, text, length);
  text_next += length;
  return ref;
}

void forget_store_cursors() {
  cursor_lock.reset();
  memset(cursors, 0, sizeof(cursors));
  for (auto& taken : pages_taken) taken.store(0, std::memory_order_relaxed);
  text_next = text_end = 0;
}

}  // namespace tidemark::base
