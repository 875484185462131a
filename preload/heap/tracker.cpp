#include "preload/heap/tracker.h"

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>

#include "preload/heap/inherited.h"
#include "preload/heap/session.h"
#include "preload/stacks/modules.h"

extern "C" void* __libc_stack_end;   // ld.so: the main thread's stack lies below

namespace tidemark::heap {
using namespace format;


constinit uint32_t session_serial = 0, grace_allocations = 0;
constinit int64_t grace_end_ns = 0;
namespace {
constinit std::atomic<bool> any_deferred{false};   // since that was looked for last
constinit bool foreign_heap = false, heap_elsewhere = false;

constinit std::atomic<uint32_t> stack_at{0};   // where glibc keeps a thread's stack: bytes from the thread pointer; 0: not known yet

// The main thread's stack lies under what ld.so was started with, and the kernel keeps 128 MiB below that free of mappings
// (arch/x86/mm/mmap.c, mmap_base); any other thread's is known to glibc. Which must not be asked here: pthread_getattr_np takes a lock of
// the thread, and allocates under it itself.
void find_stack(base::ThreadState& t) {
  constexpr address kMainStack = 64 << 20;
  auto here = reinterpret_cast<address>(__builtin_frame_address(0)), top = reinterpret_cast<address>(__libc_stack_end);
  t.set_stack(0, 0);
  if (t.stack_lost) return;
  if (here < top && top - here < kMainStack) {
    t.set_stack(top - kMainStack, top);
    return;
  }
  uint32_t at = stack_at.load(std::memory_order_relaxed);
  if (!at || base::is_main_thread()) return;
  auto self = reinterpret_cast<address>(__builtin_thread_pointer());
  address low = base::load(self + at), bytes = base::load(self + at + 8);
  if (here - low >= bytes || self - low >= bytes) return;
  t.set_stack(low, low + bytes);
}

// True when it did: the word must be read again, for whoever moves the region did not know this thread before.
bool join_session(base::ThreadState& t) {
  if (t.session == session_serial) return false;
  base::NoHandlers no_handlers;
  t.internal = 1;   // setting the key's value may allocate
  t.errno_at = &errno;
  find_stack(t);
  attach_thread();
  t.internal = 0;
  t.session = session_serial;
  return true;
}

// What signal handlers freed while this thread was inside the allocator.
void free_deferred(base::ThreadState& t) {   // where nothing is recorded any more
  for (void* p = __atomic_exchange_n(&t.deferred, nullptr, __ATOMIC_ACQUIRE); p;) {
    void* next = *static_cast<void**>(p);
    free_other(p);
    p = next;
  }
}
void release_deferred(base::ThreadState& t) {
  for (void* p = __atomic_exchange_n(&t.deferred, nullptr, __ATOMIC_RELAXED); p;) {
    void* next = *static_cast<void**>(p);
    detach(p);
    free_other(p);
    p = next;
  }
}
}  // namespace

// glibc's struct pthread has two words, stackblock and stackblock_size, one behind the other (nptl/descr.h, since 2.0); where, its versions
// differ. They are found in a thread whose stack is known.
void learn_thread_layout() {
  pthread_attr_t attributes;
  void* low = nullptr;
  size_t bytes = 0;
  if (stack_at.load() || pthread_getattr_np(pthread_self(), &attributes) != 0) return;
  bool known = pthread_attr_getstack(&attributes, &low, &bytes) == 0 && low;
  pthread_attr_destroy(&attributes);
  auto self = reinterpret_cast<address>(__builtin_thread_pointer()), top = reinterpret_cast<address>(low) + bytes;
  if (!known || self < reinterpret_cast<address>(low) || self >= top) return;
  constexpr address kLargestGuard = 1 << 20, kSearched = 4096;
  for (address at = 8; at < kSearched && self + at + 16 <= top; at += 8) {
    address block = base::load(self + at);
    if (block + base::load(self + at + 8) != top || reinterpret_cast<address>(low) - block > kLargestGuard) continue;
    stack_at.store(uint32_t(at));
    return;
  }
}

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

namespace {
void call_session(base::ThreadState& t, void (*call)()) {
  base::NoCancellation no_cancellation;
  base::NoHandlers no_handlers;
  t.internal = 1;
  call();
  t.internal = 0;
}

// Once: should the move fail, it is not tried at each allocation.
bool grace_has_passed() {
  if (TIDEMARK_LIKELY(!grace_end_ns)) return false;
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000 + now.tv_nsec >= grace_end_ns && __atomic_exchange_n(&grace_end_ns, 0, __ATOMIC_RELAXED);
}

Gate ask_gate() {
  base::ThreadState& t = base::thread_state;
  for (;;) {
    t.busy = base::kBusy;
    base::compiler_barrier();
    uint32_t word = __atomic_load_n(base::session_word, __ATOMIC_ACQUIRE);
    switch (word) {
      case base::kInert:
        if (t.deferred) free_deferred(t);
        t.busy = 0;
        return Gate::kPass;
      case base::kFrozen: t.busy = 0; base::wait_while_frozen(); continue;
      case base::kUnstarted: call_session(t, session_calls.start_early); continue;
      case base::kWiped: call_session(t, session_calls.begin_child); continue;
      case base::kGrace:
        if (join_session(t)) continue;
        if (t.deferred) release_deferred(t);
        if (!grace_has_passed() && (__atomic_load_n(&grace_allocations, __ATOMIC_RELAXED) == 0 ||
                                    __atomic_sub_fetch(&grace_allocations, 1, __ATOMIC_RELAXED) != 0))
          return Gate::kTrack;
        call_session(t, session_calls.grace_is_over);
        continue;
      default:
        if (join_session(t)) continue;
        t.generation = word;   // before the look at what is deferred: a handler that adds to it takes this back
        if (t.deferred) release_deferred(t);
        return Gate::kTrack;
    }
  }
}
}  // namespace

// busy is set, and the word is not the serial this thread knows. While the gate is asked, nobody may jump out; then the hook goes on as it came.
TIDEMARK_COLD Gate pass_gate() {
  base::ThreadState& t = base::thread_state;
  int saved = errno;
  address hook = t.busy;
  Gate gate = ask_gate();
  if (gate == Gate::kTrack) t.busy = hook;
  errno = saved;
  return gate;
}

// A handler's frames lie below the interrupted hook's, on the same stack, or on an alternate one (which may be part of the same: the
// kernel knows, except where SS_AUTODISARM made it forget). So a hook that was called from above the old one finds that one's frame gone.
TIDEMARK_COLD bool still_inside(address sp) {
  constexpr address kNear = 16 << 10;
  base::ThreadState& t = base::thread_state;
  if (t.internal || t.busy == base::kBusy) return true;
  if (!t.stack_top) find_stack(t);   // a thread older than the keeper
  auto is_own = [&](address a) { return a > t.stack_low && a <= t.stack_top; };
  // The old one's stack may be a coroutine's, of which nobody knows where it begins or ends: who jumped out is not far, or back on the thread's own.
  bool left = is_own(t.busy) ? is_own(sp) && sp >= t.busy : is_own(sp) || sp - t.busy < kNear;
  if (!left) return true;
  stack_t alternate{};
  int saved = errno;
  bool on_alternate = syscall(SYS_sigaltstack, nullptr, &alternate) != 0 || (alternate.ss_flags & SS_ONSTACK);
  errno = saved;
  if (on_alternate) return true;
  t.busy = 0;
  t.generation = base::kNoSession;   // what handlers freed meanwhile is waiting
  return false;
}

TIDEMARK_COLD void* allocate_nested(size_t bytes, int flags) {
  base::ThreadState& t = base::thread_state;
  void* p;
  if (t.internal) {
    // Not from jemalloc: starting it for our thread alone would cost a program that never calls malloc half of its start-up.
    p = nested_allocate(bytes, jemalloc::alignment_of(flags), jemalloc::zeroes(flags));
    if (!p) p = tmje_mallocx(bytes ? bytes : 1, flags);
  } else {
    // jemalloc may stand half-changed below us, or hold one of its locks: it must not be entered.
    p = nested_allocate(bytes, jemalloc::alignment_of(flags), jemalloc::zeroes(flags));
    if (p && base::store.start) {
      base::count(kNestedAllocations);
      base::count(kNestedBytes, bytes);
    }
  }
  if (!p) errno = ENOMEM;
  return p;
}

TIDEMARK_COLD void release_nested(void* p) {
  base::ThreadState& t = base::thread_state;
  if (t.internal) {
    int saved = errno;
    uint32_t word = *base::session_word;
    if (base::store.start && word != base::kWiped && word != base::kUnstarted && word != base::kInert) detach(p);
    free_other(p);
    errno = saved;
    return;
  }
  if (is_nested(p)) return nested_release(p);
  // A handler may interrupt another one here.
  void*& next = *static_cast<void**>(p) = __atomic_load_n(&t.deferred, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(&t.deferred, &next, p, true, __ATOMIC_RELEASE, __ATOMIC_RELAXED)) {}
  any_deferred.store(true, std::memory_order_relaxed);
  t.generation = base::kNoSession;   // the next hook goes through the gate, which frees it
}

// What is known of a block's size without asking jemalloc, which must not be entered here: what the program may have written.
static size_t size_without_jemalloc(const void* p) {
  if (is_nested(p)) return nested_usable_size(p);
  uint64_t entry = *base::session_word == base::kInert ? 0 : find_entry(reinterpret_cast<address>(p));   // which are not kept up any more
  if (!entry) return tmje_sallocx(p, 0);
  if (size_t size8 = size8_in(entry)) return size8 * 8;
  return record_at(entry, reinterpret_cast<address>(p))[1].load(std::memory_order_relaxed);
}

__attribute__((noinline)) size_t usable_size_slowly(const void* p) {
  if (!p) return 0;
  if (is_nested(p)) return nested_usable_size(p);
  size_t bytes = 0;   // of a thread's first call jemalloc makes its cache
  return base::as_hook([&] { bytes = tmje_sallocx(p, 0); }) ? bytes : size_without_jemalloc(p);
}

void release_what_handlers_freed() {
  base::ThreadState& t = base::thread_state;
  if (!t.deferred || t.busy) return;
  if (!enter(t) && pass_gate() == Gate::kPass) return;
  leave(t);
}

void release_what_others_handlers_freed() {
  if (!any_deferred.load(std::memory_order_relaxed) || !any_deferred.exchange(false)) return;
  for (void* p = take_deferred_of_all(); p;) {
    void* next = *static_cast<void**>(p);
    release_nested(p);
    p = next;
  }
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
  if (TIDEMARK_UNLIKELY(!enter(t)) && pass_gate() == Gate::kPass) {
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
  if (TIDEMARK_UNLIKELY(!enter(t)) && pass_gate() == Gate::kPass) {
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
