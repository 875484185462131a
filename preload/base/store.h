// The region as the shim sees it: where its pages are mapped, and how records get room in it. While a child is in its grace the
// same pages lie in private memory; the keeper moves them into a file later, at the same addresses.
#pragma once
#include <atomic>
#include <cstdint>

#include "preload/base/common.h"
#include "preload/base/spin_lock.h"
#include "preload/format/region.h"

namespace tidemark::base {

struct Store {
  char* lines;           // address of line 0, which may lie before the mapping: line(id) = lines + 64 * id
  char* start;           // of the mapping; the header. nullptr: none yet
  uint64_t bytes;
  uint32_t first_line;   // id of the line at `start`
  uint32_t first_stack;  // the same, but never 0: no stack has a lower id
  std::atomic<uint64_t> next_page;   // the first one that nobody has; Header::used_pages follows. The highest bit: closed
  std::atomic<uint64_t> closed_at;   // pages that are given out at most once it is closed
  std::atomic<uint64_t> opened;   // bytes that may be touched; the rest is PROT_NONE, so that mlockall cannot make it resident
};
TIDEMARK_OWN Store store;

inline format::Header& header() { return *reinterpret_cast<format::Header*>(store.start); }
template <class Record>
TIDEMARK_INLINE Record* line(uint32_t id) {
  return reinterpret_cast<Record*>(store.lines + uint64_t{id} * format::kLineBytes);
}
inline uint32_t line_number(const void* line) { return uint32_t((reinterpret_cast<uint64_t>(line) - reinterpret_cast<uint64_t>(store.lines)) / format::kLineBytes); }
inline void count(format::Coverage what, uint64_t n = 1) {
  __atomic_fetch_add(&header().coverage[what], n, __ATOMIC_RELAXED);
}

// Lays out an empty region in [start, start + bytes): header fields that only the layout needs, directory, first pages.
// `start` is PROT_NONE. false when the memory could not be opened: what `s` then names must not be touched.
bool format_store(Store& s, char* start, uint64_t bytes, uint32_t first_line);

// `pages` fresh pages in a row, zero-filled; returns the first one's index, 0 when there is no room for this kind. Counters
// (stacks, nodes) leave a reserve for what needs little and matters (modules, threads, text). Any thread, not in signal handlers.
uint32_t take_pages(format::PageKind kind, uint32_t pages);

// `lines` (a divisor of 64, or 32 for details) fresh lines of a kind; 0 when there is no room. Takes a spin lock.
uint32_t take_lines(format::PageKind kind, uint32_t lines);
// Whether half of what a kind may have at most is taken.
bool is_half_taken(format::PageKind kind);
// Room for one StackRecord: id, or 0.
uint32_t take_stack();
// Stores a string (cut at 4000 bytes, counted); {0, 0} when there is no room.
format::TextRef take_text(const char* text, size_t length);

// From now on few more pages are given out (1 MiB: what destructors and other threads do until the process is gone), in no thread, until a child of fork has a
// store of its own. Returns how many pages, from the first one, are in use or may be touched yet: nobody touches those beyond. 0: it was closed before.
uint64_t close_store();

// Child of a fork that a signal handler made inside of a hook: what the interrupted call does from here on, once the handler returns, stays in this process. A copy
// of all pages in use. False: no memory, all is as it was.
bool leave_shared_store();
// What is left where it is false: no page or line is given out any more in this process, for the parent gives out the same ones.
void give_up_shared_store();

// Child of fork: forget the half-filled pages of the parent's store.
void forget_store_cursors();

}  // namespace tidemark::base
