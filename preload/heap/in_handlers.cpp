// Hooks of signal handlers that interrupted the allocator: where their blocks come from, and when those that they free go back.
#include "preload/heap/threads.h"
#include "preload/heap/tracker.h"

namespace tidemark::heap {
using namespace format;
namespace {
constinit std::atomic<bool> any_deferred{false};   // since that was looked for last

template <class Visit>
void for_each_deferred(void* first, Visit visit) {
  while (void* block = first) {
    first = *static_cast<void**>(block);
    visit(block);
  }
}
}  // namespace

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
    if (p && base::store.start && *base::session_word != base::kInert) {
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

size_t size_without_jemalloc(const void* p) {
  if (is_nested(p)) return nested_usable_size(p);
  uint64_t entry = *base::session_word == base::kInert ? 0 : find_entry(reinterpret_cast<address>(p));   // which are not kept up any more
  if (!entry) return tmje_sallocx(p, 0);
  if (size_t size8 = size8_in(entry)) return size8 * 8;
  return record_at(entry, reinterpret_cast<address>(p))[1].load(std::memory_order_relaxed);
}

void release_deferred(base::ThreadState& t, bool recorded) {
  for_each_deferred(__atomic_exchange_n(&t.deferred, nullptr, __ATOMIC_ACQUIRE), [recorded](void* block) {
    if (recorded) detach(block);
    free_other(block);
  });
}

void release_what_handlers_freed() {
  base::ThreadState& t = base::thread_state;
  if (!t.deferred || t.busy) return;
  if (!enter(t) && pass_gate(Call::kOther) == Gate::kPass) return;
  leave(t);
}

void release_what_others_handlers_freed() {
  if (!any_deferred.load(std::memory_order_relaxed) || !any_deferred.exchange(false)) return;
  for_each_deferred(take_deferred_of_all(), release_nested);
}

}  // namespace tidemark::heap
