#include "preload/heap/tracker.h"

#include <cstring>

#include "preload/heap/inherited.h"
#include "preload/heap/session.h"
#include "preload/stacks/modules.h"

namespace tidemark::heap {
using namespace format;

namespace {
constinit bool foreign_heap = false, heap_elsewhere = false;

}  // namespace

bool foreign() { return foreign_heap; }
void set_foreign(bool value) { foreign_heap = value; }
bool elsewhere() { return heap_elsewhere; }
void set_elsewhere() { heap_elsewhere = true; }
void count_untracked(size_t bytes) {
  base::count(kUntrackedAllocations);
  base::count(kUntrackedBytes, bytes);
}

// Marks a link_map's block, if it is a tracked one, so that its release tells us that the module has gone.
static void watch_block(void* p) {
  uint64_t entry = find_entry(reinterpret_cast<address>(p));
  if (!size8_in(entry)) return;
  auto* at = record_at(entry, reinterpret_cast<address>(p));
  if (stack_of_record(at->load(std::memory_order_relaxed))) at->fetch_or(kWatched, std::memory_order_relaxed);
}

bool start_heap() {
  if (!make_slots()) return false;
  stacks::set_module_callbacks(watch_block, stacks::empty_caches);
  return true;
}

__attribute__((noinline)) size_t usable_size_slowly(const void* p) {
  if (!p) return 0;
  if (is_nested(p)) return nested_usable_size(p);
  size_t bytes = 0;   // of a thread's first call jemalloc makes its cache
  return base::as_hook([&] { bytes = tmje_sallocx(p, 0); }) ? bytes : size_without_jemalloc(p);
}

// Out of the free path: a record's top bit says "maybe a link_map".
TIDEMARK_COLD void release_watched(void* p, Record) { stacks::note_link_map_freed(p); }
TIDEMARK_COLD void release_inherited(Record record, uint64_t bytes) { count_inherited_free(stack_of_record(record), bytes); }

namespace {
template <Content content>
void* from_jemalloc(size_t bytes) {
  return content == Content::kZero ? tmje_calloc(1, bytes) : tmje_malloc(bytes);
}
template <Content content>
constexpr int kFlags = content == Content::kZero ? jemalloc::kZero : 0;

// busy is set. A block from the thread's magazine, else from jemalloc.
template <Content content>
void* allocate_for(uint32_t stack, size_t bytes) {
  base::ThreadState& t = base::thread_state;
  void* p;
  std::atomic<Record>* record;
  uint32_t size8 = size8_of(bytes);
  if (const Round round = take_round(t, bytes); round.block) {
    p = round.block;
    record = round.record;
    if (content == Content::kZero) memset(p, 0, bytes);
  } else {
    p = from_jemalloc<content>(bytes);
    if (TIDEMARK_UNLIKELY(!p)) {
      errno = ENOMEM;
      leave(t);
      return nullptr;
    }
    record = record_for(reinterpret_cast<address>(p), size8);
  }
  attach_at(record, bytes, size8, stack);
  leave(t);
  return p;
}
}  // namespace

template <Content content>
__attribute__((noinline)) void* allocate_slowly(size_t bytes, address pc, address sp, address rbp) {
  base::ThreadState& t = base::thread_state;
  Caller caller{pc, sp, rbp};
  if (TIDEMARK_UNLIKELY(t.busy) && still_inside(sp)) return allocate_nested(bytes, kFlags<content>);
  if (TIDEMARK_UNLIKELY(!enter(t)) && pass_gate() == Gate::kPass) {
    void* p = from_jemalloc<content>(bytes);
    if (!p) errno = ENOMEM;
    return p;
  }
  return allocate_for<content>(stacks::find_stack(stacks::begin_lookup(caller)), bytes);
}
template <Content content>
__attribute__((noinline)) void* allocate_at(size_t bytes, address pc, address sp, address rbp, stacks::Place* place) {
  Caller caller{pc, sp, rbp};
  return allocate_for<content>(stacks::find_unknown_stack(stacks::begin_lookup(caller), *place), bytes);
}
// A large block, the first one in its page, or none. Leaves.
static __attribute__((noinline)) void* attach_slowly(void* p, size_t bytes, uint32_t size8, uint32_t stack) {
  if (TIDEMARK_LIKELY(p)) attach(p, bytes, size8, stack);
  else errno = ENOMEM;
  leave(base::thread_state);
  return p;
}
template <Content content>
__attribute__((noinline)) void* allocate_fresh(size_t bytes, uint32_t stack) {
  base::ThreadState& t = base::thread_state;
  uint32_t size8 = size8_of(bytes);
  void* p = from_jemalloc<content>(bytes);
  if (TIDEMARK_UNLIKELY(!p || !size8)) return attach_slowly(p, bytes, size8, stack);
  uint64_t entry = find_entry(reinterpret_cast<address>(p));
  if (TIDEMARK_UNLIKELY(size8_in(entry) != size8)) return attach_slowly(p, bytes, size8, stack);
  return attach_quickly(t, p, record_at_small(entry, reinterpret_cast<address>(p)), bytes, size8, stack);
}
template void* allocate_slowly<Content::kAny>(size_t, address, address, address);
template void* allocate_slowly<Content::kZero>(size_t, address, address, address);
template void* allocate_at<Content::kAny>(size_t, address, address, address, stacks::Place*);
template void* allocate_at<Content::kZero>(size_t, address, address, address, stacks::Place*);
template void* allocate_fresh<Content::kAny>(size_t, uint32_t);
template void* allocate_fresh<Content::kZero>(size_t, uint32_t);

__attribute__((noinline)) void* count_slowly(size_t bytes, uint32_t stack, void* block) {
  count_allocation(stack, bytes);
  leave(base::thread_state);
  return block;
}

__attribute__((noinline)) void release_counted(void* p, uint32_t size8) {
  base::ThreadState& t = base::thread_state;
  int saved = *t.errno_at;
  tmje_sdallocx(p, size8 * 8, 0);
  *t.errno_at = saved;
  leave(t);
}

__attribute__((noinline)) void release_tracked(void* p, std::atomic<Record>* at, uint32_t size8) {
  Record record = at->load(std::memory_order_relaxed);
  at->store(0, std::memory_order_relaxed);
  format::Header& h = base::header();
  count_free(stack_of_record(record), size8 * 8 - rounding_of_record(record), (h.tick - tick_of_record(record)) & kTickMask, h);
  base::ThreadState& t = base::thread_state;
  if (keep_round(t, p, at, size8)) return leave(t);
  release_counted(p, size8);
}

__attribute__((noinline)) void release_slowly(void* p) {
  base::ThreadState& t = base::thread_state;
  if (TIDEMARK_UNLIKELY(t.busy) && still_inside(own_sp())) return release_nested(p);
  int saved = errno;
  if (TIDEMARK_UNLIKELY(!enter(t)) && pass_gate(Call::kOther) == Gate::kPass) {
    free_other(p);
    errno = saved;
    return;
  }
  if (uint32_t size8 = detach(p)) tmje_sdallocx(p, size8 * 8, 0);
  else free_other(p);
  errno = saved;
  leave(t);
}

void* allocate_flags(size_t bytes, int flags, const Caller& caller) {
  uint32_t size8 = size8_of_usable(usable_of(bytes ? bytes : 1, jemalloc::alignment_of(flags)));
  return allocate_with(bytes, size8, caller, flags, [&] { return tmje_mallocx(bytes ? bytes : 1, flags); });
}

void* allocate_aligned(size_t alignment, size_t bytes, const Caller& caller) {
  return allocate_flags(bytes, jemalloc::align(alignment), caller);
}

void* allocate_pages(size_t bytes, size_t rounded, const Caller& caller) {
  int flags = jemalloc::align(4096);
  if (!rounded) rounded = 4096;
  uint32_t size8 = size8_of_usable(usable_of(rounded, format::kPageBytes));
  if (base::thread_state.busy && still_inside(caller.sp)) return allocate_nested(rounded, flags);
  return allocate_with(bytes, size8, caller, flags, [&] { return tmje_mallocx(rounded, flags); });
}

namespace {
// A block between detaching and attaching: what its record was, to put it back when the allocator refuses.
struct Detached {
  std::atomic<Record>* at = nullptr;
  Record record = 0;
  uint64_t bytes = 0;
  uint32_t size8 = 0;
};

Detached take_record(void* p) {
  Detached d;
  uint64_t entry = find_entry(reinterpret_cast<address>(p));
  if (!entry) return d;
  auto* at = record_at(entry, reinterpret_cast<address>(p));
  Record record = at->load(std::memory_order_relaxed);
  if (!stack_of_record(record)) return d;
  d.at = at;
  d.record = record;
  d.size8 = size8_in(entry);
  d.bytes = d.size8 ? d.size8 * 8 - (rounding_of_record(record) & 0x1fff) : at[1].load(std::memory_order_relaxed);
  at->store(0, std::memory_order_relaxed);
  return d;
}

void count_taken(const Detached& d) {
  if (!d.at) return;
  uint32_t stack = stack_of_record(d.record);
  if (stack < base::store.first_line) count_inherited_free(stack, d.bytes);
  else count_free(stack, d.bytes, (base::header().tick - tick_of_record(d.record)) & kTickMask);
}

// A block of a nested hook, outside of one: moved to the ordinary heap.
void* reallocate_from_nested(void* p, size_t bytes, int flags, const Caller& caller) {
  void* q = allocate_flags(bytes, flags, caller);
  if (!q) return nullptr;
  size_t old = nested_usable_size(p);
  memcpy(q, p, old < bytes ? old : bytes);
  nested_release(p);
  return q;
}

// A nested hook: never in place, for the thread cache may be half-changed.
void* reallocate_nested(void* p, size_t bytes, int flags) {
  if (base::thread_state.internal && !is_nested(p)) return tmje_rallocx(p, bytes, flags);
  void* q = allocate_nested(bytes, flags);
  if (!q) return nullptr;
  size_t old = size_without_jemalloc(p);
  memcpy(q, p, old < bytes ? old : bytes);
  release_nested(p);
  return q;
}
}  // namespace

// Detach before, reattach on failure: between the two the address may already be somebody else's.
void* reallocate_flags(void* p, size_t bytes, int flags, const Caller& caller) {
  base::ThreadState& t = base::thread_state;
  if (TIDEMARK_UNLIKELY(t.busy) && still_inside(caller.sp)) return reallocate_nested(p, bytes, flags);
  if (is_nested(p)) return reallocate_from_nested(p, bytes, flags, caller);
  if (TIDEMARK_UNLIKELY(!enter(t)) && pass_gate() == Gate::kPass) {
    void* q = tmje_rallocx(p, bytes, flags);
    if (!q) errno = ENOMEM;
    return q;
  }
  stacks::Lookup lookup = stacks::begin_lookup(caller);
  Detached old = take_record(p);
  void* q = tmje_rallocx(p, bytes, flags);
  if (TIDEMARK_LIKELY(q)) {
    count_taken(old);
    uint32_t size8 = (flags & 0x3f) ? size8_of_usable(tmje_sallocx(q, 0)) : size8_of(bytes);
    attach(q, bytes, size8, stacks::find_stack(lookup));
  } else {
    if (old.at) old.at->store(old.record, std::memory_order_relaxed);
    errno = ENOMEM;
  }
  leave(t);
  return q;
}

void* reallocate(void* p, size_t bytes, const Caller& caller) { return reallocate_flags(p, bytes, 0, caller); }

size_t resize_in_place(void* p, size_t size, size_t extra, int flags, const Caller& caller) {
  base::ThreadState& t = base::thread_state;
  if ((TIDEMARK_UNLIKELY(t.busy) && still_inside(caller.sp)) || is_nested(p)) return usable_size(p);
  if (TIDEMARK_UNLIKELY(!enter(t)) && pass_gate() == Gate::kPass) return tmje_xallocx(p, size, extra, flags);
  stacks::Lookup lookup = stacks::begin_lookup(caller);
  size_t before = tmje_sallocx(p, 0);
  Detached old = take_record(p);
  size_t usable = tmje_xallocx(p, size, extra, flags);
  if (usable != before) {
    count_taken(old);
    attach(p, usable < size + extra ? usable : size + extra, size8_of_usable(usable), stacks::find_stack(lookup));
  } else if (old.at) {
    old.at->store(old.record, std::memory_order_relaxed);
  }
  leave(t);
  return usable;
}

void release_flags(void* p, int flags) {
  base::ThreadState& t = base::thread_state;
  if (TIDEMARK_UNLIKELY(t.busy) && still_inside(own_sp())) return release_nested(p);
  int saved = errno;
  if (TIDEMARK_UNLIKELY(!enter(t)) && pass_gate(Call::kOther) == Gate::kPass) {
    free_other(p, flags);
    errno = saved;
    return;
  }
  detach(p);
  free_other(p, flags);
  errno = saved;
  leave(t);
}

}  // namespace tidemark::heap
