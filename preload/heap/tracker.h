// What malloc and free do: the one place where jemalloc, stacks, page metadata and counters meet. Contracts are those of the C
// library's functions of like name; see each. Any thread, also before constructors; in a signal handler that interrupted the
// allocator itself, blocks come from an arena of their own and are counted in coverage only.
#pragma once
#include <cerrno>
#include <cstring>

#include "preload/base/jemalloc.h"
#include "preload/heap/counters.h"
#include "preload/heap/magazines.h"
#include "preload/heap/nested_heap.h"
#include "preload/heap/page_map.h"
#include "preload/heap/size_classes.h"
#include "preload/stacks/lookup.h"

namespace tidemark::heap {

using tidemark::Caller;

enum class Call { kAllocates, kOther };   // only the former are counted in a child's grace
enum class Gate { kTrack, kPass };   // kTrack: busy is set, and ThreadState knows its session, slot, stack and errno

// Slow paths, out of line.
Gate pass_gate(Call call = Call::kAllocates);                // the session word differs from what this thread knows; errno is kept
// busy is set already: is the hook that set it still there? If a signal handler jumped out of it (siglongjmp), busy is cleared. `sp`:
// of the present hook, or of its caller.
bool still_inside(address sp);
void* allocate_nested(size_t bytes, int flags);              // busy is set already
void release_nested(void* p);
void release_watched(void* p, Record record);                // the record has kWatched
void release_inherited(Record record, uint64_t bytes);
void count_untracked(size_t bytes);
void learn_thread_layout();                                  // in a thread of ours
bool own_thread_stack(address& low, address& top);           // of the calling one, which is ours, its guard included; false: not known
bool start_heap();   // once: tables; false: no memory

bool foreign();   // the executable brings its own malloc: these are not what it calls
void set_foreign(bool value);
bool elsewhere();   // another library that comes before ours is the program's allocator
void set_elsewhere();

TIDEMARK_INLINE bool enter(base::ThreadState& t) {   // after `busy` was found clear
  __asm__ volatile("movq %%rsp, %0" : "=m"(t.busy));
  base::compiler_barrier();
  return TIDEMARK_LIKELY(t.generation == *base::session_word);
}
TIDEMARK_INLINE address own_sp() {   // of the hook: comparable with what enter() keeps
  address sp;
  __asm__("movq %%rsp, %0" : "=r"(sp));
  return sp;
}
TIDEMARK_INLINE void leave(base::ThreadState& t) {
  base::compiler_barrier();
  t.busy = 0;
}

// busy is set; the block is fresh.
TIDEMARK_INLINE void attach_at(std::atomic<Record>* record, size_t bytes, uint32_t size8, uint32_t stack) {
  if (TIDEMARK_UNLIKELY(!record)) return count_untracked(bytes);
  format::Header& h = base::header();
  if (TIDEMARK_UNLIKELY(!size8)) record[1].store(bytes, std::memory_order_relaxed);
  record->store(make_record(stack, h.tick, size8 ? size8 * 8 - bytes : 0), std::memory_order_relaxed);
  count_allocation(stack, bytes, h);
}
TIDEMARK_INLINE void attach(void* p, size_t bytes, uint32_t size8, uint32_t stack) {
  attach_at(record_for(reinterpret_cast<address>(p), size8), bytes, size8, stack);
}

// busy is set. Takes the block's record away and counts the free; returns the block's usable size / 8 where it is known, else 0.
inline uint32_t detach(void* p) {
  uint64_t entry = find_entry(reinterpret_cast<address>(p));
  if (TIDEMARK_UNLIKELY(!entry)) return 0;
  auto* at = record_at(entry, reinterpret_cast<address>(p));
  Record record = at->load(std::memory_order_relaxed);
  uint32_t stack = stack_of_record(record);
  if (TIDEMARK_UNLIKELY(!stack)) return 0;
  uint32_t size8 = size8_in(entry);
  at->store(0, std::memory_order_relaxed);
  if (TIDEMARK_UNLIKELY(record & kWatched)) release_watched(p, record);
  uint64_t bytes = TIDEMARK_LIKELY(size8) ? size8 * 8 - (rounding_of_record(record) & 0x1fff) : at[1].load(std::memory_order_relaxed);
  if (TIDEMARK_UNLIKELY(stack < base::store.first_line)) release_inherited(record, bytes);
  else {
    format::Header& h = base::header();
    count_free(stack, bytes, (h.tick - tick_of_record(record)) & kTickMask, h);
  }
  return size8;
}

template <class Allocate>
TIDEMARK_INLINE void* allocate_with(size_t bytes, uint32_t size8, const Caller& caller, int flags, Allocate real) {
  base::ThreadState& t = base::thread_state;
  if (TIDEMARK_UNLIKELY(t.busy) && still_inside(caller.sp)) return allocate_nested(bytes, flags);
  if (TIDEMARK_UNLIKELY(!enter(t)) && pass_gate() == Gate::kPass) {
    void* p = real();
    if (!p) errno = ENOMEM;
    return p;
  }
  stacks::Lookup lookup = stacks::begin_lookup(caller);
  void* p = real();
  if (TIDEMARK_LIKELY(p)) attach(p, bytes, size8, stacks::find_stack(lookup));
  else errno = ENOMEM;
  leave(t);
  return p;
}

// What the fast path below leaves to others, by tail calls: it needs no registers of its own, then, beyond those that a call may change.
enum class Content { kAny, kZero };
template <Content content>
void* allocate_slowly(size_t bytes, address pc, address sp, address rbp);   // anything; it begins anew
template <Content content>
void* allocate_at(size_t bytes, address pc, address sp, address rbp, stacks::Place* place);   // busy is set; the stack is not known there
template <Content content>
TIDEMARK_INLINE void* allocate_slowly(size_t bytes, const Caller& c) { return allocate_slowly<content>(bytes, c.pc, c.sp, c.rbp); }
template <Content content>
TIDEMARK_INLINE void* allocate_at(size_t bytes, const Caller& c, stacks::Place* place) {
  return allocate_at<content>(bytes, c.pc, c.sp, c.rbp, place);
}
template <Content content>
void* allocate_fresh(size_t bytes, uint32_t stack);   // busy is set; there is no block at hand
void* count_slowly(size_t bytes, uint32_t stack, void* block);   // busy is set; all but the counters has been done

// Leaves.
TIDEMARK_INLINE void* attach_quickly(base::ThreadState& t, void* block, std::atomic<Record>* record, size_t bytes, uint32_t size8, uint32_t stack) {
  format::Header& h = base::header();
  record->store(make_record(stack, h.tick, size8 * 8 - bytes), std::memory_order_relaxed);
  if (TIDEMARK_UNLIKELY(!count_allocation_quickly(stack, bytes, h, t))) return count_slowly(bytes, stack, block);
  leave(t);
  return block;
}

// Most calls: a small block, from a stack that is known at its place, which the thread has the counters of. What is known of stacks that take turns is
// looked up here, too: by functions it would take nine lines of code more, which other code drives out between two calls.
template <Content content>
TIDEMARK_INLINE void* allocate_quickly(size_t bytes, HookFrame hook) {
  base::ThreadState& t = base::thread_state;
  stacks::Place* place;
  uint64_t meta, sum;
  if (TIDEMARK_UNLIKELY(t.busy)) return allocate_slowly<content>(bytes, hook.caller());
  if (TIDEMARK_UNLIKELY(!enter(t) || !stacks::sum_here(hook, place, meta, sum))) {
    leave(t);
    return allocate_slowly<content>(bytes, hook.caller());
  }
  uint32_t stack = stacks::last_stack(*place, meta, sum);
  if (TIDEMARK_UNLIKELY(!stack)) {
    stack = stacks::stack_in_turn(*place, sum);
    if (TIDEMARK_UNLIKELY(!stack)) return allocate_at<content>(bytes, hook.caller(), place);
  }
  const Round round = take_round(t, bytes);
  void* block = round.block;
  if (!block) return allocate_fresh<content>(bytes, stack);
  block = attach_quickly(t, block, round.record, bytes, kSizeClasses.by_8[(bytes + 7) / 8], stack);
  return content == Content::kZero ? memset(block, 0, bytes) : block;
}

// malloc(3): never fails for 0 bytes; nullptr and ENOMEM on failure.
TIDEMARK_INLINE void* allocate(size_t bytes, HookFrame hook) { return allocate_quickly<Content::kAny>(bytes, hook); }
TIDEMARK_INLINE void* allocate(size_t bytes, const Caller& caller) { return allocate_slowly<Content::kAny>(bytes, caller); }
// calloc(3) after the overflow check.
TIDEMARK_INLINE void* allocate_zeroed(size_t bytes, HookFrame hook) { return allocate_quickly<Content::kZero>(bytes, hook); }
TIDEMARK_INLINE void* allocate_zeroed(size_t bytes, const Caller& caller) { return allocate_slowly<Content::kZero>(bytes, caller); }
void* allocate_flags(size_t bytes, int flags, const Caller& caller);                    // mallocx
void* allocate_aligned(size_t alignment, size_t bytes, const Caller& caller);           // alignment: a power of two
void* allocate_pages(size_t bytes, size_t rounded, const Caller& caller);               // pvalloc: rounded to whole pages
void* reallocate(void* p, size_t bytes, const Caller& caller);                          // p and bytes not 0; p intact on failure
void* reallocate_flags(void* p, size_t bytes, int flags, const Caller& caller);         // rallocx
size_t resize_in_place(void* p, size_t size, size_t extra, int flags, const Caller& caller);   // xallocx
void release_flags(void* p, int flags);                                                 // dallocx, sdallocx

// A block whose size the page map does not tell: large, untracked, or a nested hook's.
inline void free_other(void* p, int flags = 0) {
  if (is_nested(p)) nested_release(p);
  else if (flags) tmje_dallocx(p, flags);
  else tmje_free(p);
}

void release_slowly(void* p);                                   // anything; it begins anew
void release_tracked(void* p, std::atomic<Record>* at, uint32_t size8);   // busy is set; the block is tracked
void release_counted(void* p, uint32_t size8);                  // busy is set; all is done but to give it to jemalloc

// free(3): p is not nullptr. errno is kept.
TIDEMARK_INLINE void release(void* p) {
  base::ThreadState& t = base::thread_state;
  if (TIDEMARK_UNLIKELY(t.busy)) return release_slowly(p);
  bool entered = enter(t);
  uint64_t entry = entered ? find_entry(reinterpret_cast<address>(p)) : 0;
  if (TIDEMARK_UNLIKELY(!size8_in(entry))) {
    leave(t);
    return release_slowly(p);
  }
  auto* at = record_at_small(entry, reinterpret_cast<address>(p));
  Record record = at->load(std::memory_order_relaxed);
  uint32_t stack = stack_of_record(record), size8 = size8_in(entry);
  // Watched ones are negative, and of what is not tracked the stack is 0.
  if (TIDEMARK_UNLIKELY(int64_t(record) < 0 || stack < base::store.first_stack)) {
    leave(t);
    return release_slowly(p);
  }
  format::Header& h = base::header();
  if (TIDEMARK_UNLIKELY(!count_free_quickly(stack, size8 * 8 - rounding_of_record(record), tick_of_record(record), h, t)))
    return release_tracked(p, at, size8);
  at->store(0, std::memory_order_relaxed);
  if (TIDEMARK_UNLIKELY(!keep_round(t, p, at, size8))) return release_counted(p, size8);
  leave(t);
}

size_t usable_size_slowly(const void* p);   // anything, nullptr too

// What is known of a block's size without asking jemalloc, which must not be entered in a nested hook: what the program may have written.
size_t size_without_jemalloc(const void* p);

// busy is set. What signal handlers freed while this thread was inside the allocator; recorded: or nothing is any more.
void release_deferred(base::ThreadState& t, bool recorded);
// The same where no other call of the thread's may follow. Not from a handler that did.
void release_what_handlers_freed();
// The same of threads that have not called since. A thread of ours only.
void release_what_others_handlers_freed();

// malloc_usable_size(3). A tracked block's page tells it, and free asks for the same lines soon; jemalloc's own map is
// colder and deeper. Records are only true while this thread tracks. A nested hook's block is on no page of the map.
TIDEMARK_INLINE size_t usable_size(const void* p) {
  auto at = reinterpret_cast<address>(p);
  if (TIDEMARK_UNLIKELY(base::thread_state.generation != *base::session_word)) return usable_size_slowly(p);
  uint64_t entry = find_entry(at);
  if (TIDEMARK_UNLIKELY(!size8_in(entry) || !stack_of_record(record_at_small(entry, at)->load(std::memory_order_relaxed)))) return usable_size_slowly(p);
  return size_t{size8_in(entry)} * 8;
}

}  // namespace tidemark::heap
