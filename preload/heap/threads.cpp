#include "preload/heap/threads.h"

#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>

#include "preload/base/memory.h"
#include "preload/base/spin_lock.h"
#include "preload/heap/magazines.h"
#include "preload/heap/session.h"
#include "preload/heap/tracker.h"
#include "preload/stacks/module_reading.h"
#include "preload/stacks/path.h"

extern "C" void* __libc_stack_end;   // ld.so: the main thread's stack lies below

namespace tidemark::heap {
using namespace format;

constinit Slot* slots = nullptr;
constinit bool many_threads = false;
constinit std::atomic<bool> threads_vanished{false};

namespace {
constinit base::SpinLock slots_lock;
constinit uint32_t slots_used = 0;                // slot 0 is never given: owner 0 means nobody
constinit uintptr_t lowest_stack = UINTPTR_MAX, highest_stack = 0;   // all that were seen lie in between
constinit uint32_t first_free = 0;
constinit uint32_t slots_taken = 0;
constinit pthread_key_t key;
constinit bool have_key = false;
constexpr uint8_t kGone = 2;   // ThreadState::exiting: no key's destructor will be called again

// What a thread needs besides its state: not in its own storage, for threads of a few pages have no place for it.
struct alignas(format::kPageBytes) Room {
  MagazineRoom rounds;
  Room* next_free;
  NotedStripe stripes[kNotedStripes];
  stacks::Path path;
};
static_assert(offsetof(Room, path) == stacks::kPathBegins && sizeof(Room) % format::kPageBytes == 0);
constexpr uint32_t kRoomsAtOnce = 4;
constinit Room* free_rooms = nullptr;

// The latest threads that have no slot but may record: those that are ending, for destructors and glibc itself free blocks after that, and those that found none.
constexpr uint32_t kSlotless = 16;
constinit base::ThreadState* slotless[kSlotless]{};
constinit uint32_t next_slotless = 0;

// slots_lock is held.
void note_slotless(base::ThreadState& t) {
  for (base::ThreadState* known : slotless)
    if (known == &t) return;
  slotless[next_slotless++ % kSlotless] = &t;
}

// Whether there is such a thread's state, and not what came to lie there after its end: glibc's control block, which is as far from it as in any thread, names
// itself twice (tcbhead_t::tcb and self, part of the ABI).
bool copy_slotless(const base::ThreadState* t, base::ThreadState& copy) {
  constexpr uint32_t kSelf = 2;
  const auto own = reinterpret_cast<address>(__builtin_thread_pointer()), block = own + (reinterpret_cast<address>(t) - reinterpret_cast<address>(&base::thread_state));
  address head[kSelf + 1];
  return base::copy_if_readable(head, reinterpret_cast<const void*>(block), sizeof(head)) && head[0] == block && head[kSelf] == block &&
         base::copy_if_readable(&copy, t, sizeof(copy)) && !copy.slot;
}

// slots_lock is held. Whether one of them is inside a hook, other than the caller; those that are no more are forgotten.
bool any_slotless_busy() {
  bool busy = false;
  if (base::filter_came()) return false;   // nothing can be copied that may go at that moment
  for (base::ThreadState*& t : slotless) {
    base::ThreadState copy;
    if (!t || t == &base::thread_state) continue;
    if (!copy_slotless(t, copy)) t = nullptr;
    else if (copy.busy) busy = true;
  }
  return busy;
}

// slots_lock is held. Without memory the thread goes on without one.
void take_room(base::ThreadState& t) {
  if (!free_rooms) {
    auto* fresh = static_cast<Room*>(base::map_private(kRoomsAtOnce * sizeof(Room)));
    for (uint32_t i = 0; fresh && i < kRoomsAtOnce; i++) {
      fresh[i].next_free = free_rooms;
      free_rooms = &fresh[i];
    }
    if (!fresh) return;
  }
  Room* room = free_rooms;
  free_rooms = room->next_free;
  t.path = &room->path;
  t.path->many = base::is_main_thread() ? stacks::recent_of_main : nullptr;
  t.stripes = room->stripes;
  lay_out_magazines(room->rounds);
  t.magazines = &room->rounds.magazines;
}

void give_back_room(base::ThreadState& t) {
  if (!t.path) return;
  empty_magazines();
  auto* room = reinterpret_cast<Room*>(reinterpret_cast<char*>(t.path) - offsetof(Room, path));
  room->path.count = 0;
  t.path = nullptr;
  t.stripes = nullptr;
  have_no_magazines(t);
  base::SpinGuard guard(slots_lock);
  room->next_free = free_rooms;
  free_rooms = room;
}

// Told twice: other keys' destructors, which may allocate, are to find the thread as it was.
void at_thread_exit(void* state) {
  base::ThreadState& t = base::thread_state;
  release_what_handlers_freed();
  base::enter_busy();
  bool last = t.exiting++ || pthread_setspecific(key, state) != 0;
  if (last) {
    detach_thread();
    give_back_room(t);
    t.exiting = kGone;
  } else {
    drain_magazines();   // while jemalloc has a cache for this thread: later it takes block by block, each under a lock
  }
  t.busy = 0;
  if (!last) return;
  session_calls.thread_ended();
}

// Whether this thread's end will be told: a slot whose thread is gone must not name its state. The process's first thread has
// a state as long as there is a process.
bool will_be_told(base::ThreadState& t) {
  return (have_key && pthread_setspecific(key, &t) == 0) || base::is_main_thread();
}

// slots_lock is held. 0: no room.
uint32_t take_slot() {
  if (uint32_t slot = first_free) {
    first_free = slots[slot].next_free;
    return slot;
  }
  if (slots_used + 1 >= kMaxThreads) return 0;
  uint32_t id = base::take_lines(PageKind::kThreads, 1);
  if (!id) return 0;
  slots[++slots_used].line = id;
  return slots_used;
}

// slots_lock is held.
void free_slot(uint32_t slot) {
  Thread* record = base::line<Thread>(slots[slot].line);
  __atomic_fetch_add(&base::header().live_bytes, record->live_bytes, __ATOMIC_RELAXED);
  record->live_bytes = 0;
  record->last_tick = base::header().tick;
  __atomic_store_n(&record->tid, 0, __ATOMIC_RELEASE);
  slots[slot].state = nullptr;
  slots[slot].stack_low = slots[slot].stack_top = 0;
  __atomic_store_n(&slots[slot].generation, uint16_t(slots[slot].generation + 1), __ATOMIC_RELEASE);
  slots[slot].next_free = first_free;
  first_free = slot;
  base::header().threads_now--;
}

// slots_lock is held. The thread that has this slot; nullptr: none, or it vanished: its state is gone with its stack, or is another thread's.
base::ThreadState* thread_in(uint32_t slot) {
  base::ThreadState* t = slots[slot].state;
  if (!t) return nullptr;
  bool readable = t == &base::thread_state || (base::readable(t) && base::readable(&t->slot));   // its stack may be the caller's now
  if (readable && t->slot == base::line<Thread>(slots[slot].line)) return t;
  free_slot(slot);
  threads_vanished.store(true, std::memory_order_relaxed);
  return nullptr;
}
}  // namespace

TIDEMARK_COLD void attach_thread() {
  base::ThreadState& t = base::thread_state;
  t.slot = nullptr;
  t.owner = base::kNoOwner;
  t.stripes_tick = base::kNoTick;
  if (!t.magazines) have_no_magazines(t);
  if (t.exiting == kGone) {
    base::SpinGuard guard(slots_lock);
    return note_slotless(t);
  }
  bool told = will_be_told(t);
  // All of it under the lock: who moves the region holds it, and does not know this thread yet.
  base::SpinGuard guard(slots_lock);
  Header& h = base::header();
  if (slots_taken++) many_threads = true;
  uint32_t slot = told ? take_slot() : 0;
  if (!slot) {
    note_slotless(t);
    base::count(kThreadsWithoutSlot);
    many_threads = true;
    return;
  }
  uint32_t now = ++h.threads_now;
  if (now > h.threads_peak) h.threads_peak = now;
  if (many_threads) h.live_slack_bytes = uint64_t{h.threads_peak} * kHoldBack;
  auto* record = base::line<Thread>(slots[slot].line);
  record->generation++;
  record->first_tick = record->last_tick = h.tick;
  record->live_bytes = 0;
  record->reserved[0] = slot;
  __atomic_store_n(&record->tid, uint32_t(syscall(SYS_gettid)), __ATOMIC_RELEASE);
  if (t.stack_top) {
    if (t.stack_low < lowest_stack) __atomic_store_n(&lowest_stack, t.stack_low, __ATOMIC_RELAXED);
    if (t.stack_top > highest_stack) __atomic_store_n(&highest_stack, t.stack_top, __ATOMIC_RELAXED);
  }
  __atomic_store_n(&slots[slot].stack_low, t.stack_low, __ATOMIC_RELAXED);
  __atomic_store_n(&slots[slot].stack_top, t.stack_top, __ATOMIC_RELAXED);
  __atomic_store_n(&slots[slot].state, &t, __ATOMIC_RELEASE);
  if (!t.path) take_room(t);
  open_magazines();
  t.slot = record;
  t.owner = slot | uint32_t{slots[slot].generation} << 16;
}

void flush_share() {
  Thread* record = base::thread_state.slot;
  int64_t share = record->live_bytes;
  record->live_bytes = 0;
  Header& h = base::header();
  int64_t now = __atomic_add_fetch(&h.live_bytes, share, __ATOMIC_RELAXED);
  if (share > 0 && now > 0) raise(h.peak_live_bytes, uint64_t(now));
}

TIDEMARK_COLD void detach_thread() {
  base::ThreadState& t = base::thread_state;
  uint32_t owner = t.owner;
  // In a child of fork the slot is one of the parent's, until this thread has joined the child's own session.
  bool has_slot = t.slot && t.session == session_serial && *base::session_word != base::kWiped;
  t.owner = base::kNoOwner;
  t.stripes_tick = base::kNoTick;
  if (!has_slot) {
    t.slot = nullptr;
    return;
  }
  base::SpinGuard guard(slots_lock);
  t.slot = nullptr;
  note_slotless(t);
  free_slot(owner & 0xffff);
}

void* take_deferred_of_all() {
  void* all = nullptr;
  base::SpinGuard guard(slots_lock);
  for (uint32_t i = 1; i <= slots_used; i++) {
    base::ThreadState* t = thread_in(i);
    void* own = t ? __atomic_exchange_n(&t->deferred, nullptr, __ATOMIC_ACQUIRE) : nullptr;
    while (own) {
      void* next = *static_cast<void**>(own);
      *static_cast<void**>(own) = all;
      all = own;
      own = next;
    }
  }
  return all;
}

void look_for_vanished_threads() {
  base::SpinGuard guard(slots_lock);
  for (uint32_t i = 1; i <= slots_used; i++) thread_in(i);
}

namespace {
void lose_part(base::ThreadState& t, uintptr_t start, uintptr_t end, uintptr_t in_use) {
  if (start >= t.stack_top || end <= t.stack_low) return;
  if (end <= in_use) {   // a JVM's guard pages; or those of coroutines' stacks, which the thread goes to later
    t.lower_stack_to(end);
  } else {
    __atomic_store_n(&t.stack_lost, 1, __ATOMIC_RELEASE);   // first: then it is not looked for again
    t.forget_stack();
  }
}

bool lies_in_anothers_stack(uintptr_t start, uintptr_t end) {
  if (start >= __atomic_load_n(&highest_stack, __ATOMIC_RELAXED) || end <= __atomic_load_n(&lowest_stack, __ATOMIC_RELAXED)) return false;
  uint32_t n = __atomic_load_n(&slots_used, __ATOMIC_ACQUIRE);
  for (uint32_t i = 1; slots && i <= n; i++) {
    const Slot& s = slots[i];
    if (start < __atomic_load_n(&s.stack_top, __ATOMIC_RELAXED) && end > __atomic_load_n(&s.stack_low, __ATOMIC_RELAXED) &&
        s.state != &base::thread_state)
      return true;
  }
  return false;
}

// The caller may be a handler that interrupted who has the lock.
void lose_parts_of_others(uintptr_t start, uintptr_t end) {
  constexpr uint32_t kTries = 10'000;
  if (*base::session_word == base::kWiped) return;   // a child of fork, where there are no others, and whose region is its parent's yet
  if (base::filter_came()) return;                    // who asks to hold signals back may be killed
  base::NoCancellation no_cancellation;
  base::NoHandlers no_handlers;
  if (!slots_lock.try_lock(kTries)) return;
  for (uint32_t i = 1; i <= slots_used; i++) {
    const Slot& s = slots[i];
    bool overlaps = s.state && start < s.stack_top && end > s.stack_low;
    base::ThreadState* t = overlaps ? thread_in(i) : nullptr;   // asks the kernel
    if (t && t != &base::thread_state) lose_part(*t, start, end, t->stack_low + (t->stack_top - t->stack_low) / 2);
  }
  slots_lock.unlock();
}

void lose_own_stack(uintptr_t start, size_t bytes) {
  base::ThreadState& t = base::thread_state;
  const auto sp = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
  constexpr uintptr_t kFar = 64 << 20;
  if (!t.stack_top && start + bytes <= sp && sp - start < kFar) t.stack_floor = std::max(t.stack_floor, start + bytes);   // it has not been looked for yet
  bool on_it = sp >= t.stack_low && sp < t.stack_top;
  lose_part(t, start, start + bytes, on_it ? sp : t.stack_low);
}

}  // namespace

static uintptr_t end_of_pages(uintptr_t start, size_t bytes) { return (start + bytes + format::kPageBytes - 1) & ~uintptr_t{format::kPageBytes - 1}; }

void forget_pages(uintptr_t start, size_t bytes) { stacks::forget_readable_pages(start, end_of_pages(start, bytes)); }

void lose_pages(uintptr_t start, size_t bytes) {
  const uintptr_t end = end_of_pages(start, bytes);
  if (end <= start || start % format::kPageBytes) return;   // the kernel refuses it, or does nothing
  bytes = end - start;
  forget_pages(start, bytes);
  lose_own_stack(start, bytes);
  if (lies_in_anothers_stack(start, end)) lose_parts_of_others(start, end);
}

bool lock_idle_threads() {
  slots_lock.lock();
  bool busy = any_slotless_busy();
  for (uint32_t i = 1; i <= slots_used && !busy; i++) {
    const base::ThreadState* t = thread_in(i);
    busy = t && t != &base::thread_state && __atomic_load_n(&t->busy, __ATOMIC_ACQUIRE);
  }
  if (busy) slots_lock.unlock();
  return !busy;
}

void for_each_thread(void (*act)(base::ThreadState&)) {
  base::SpinGuard guard(slots_lock);
  for (uint32_t i = 1; i <= slots_used; i++)
    if (base::ThreadState* t = thread_in(i)) act(*t);
}

int64_t total_live() {
  base::SpinGuard guard(slots_lock);
  int64_t sum = __atomic_load_n(&base::header().live_bytes, __ATOMIC_RELAXED);
  for (uint32_t i = 1; i <= slots_used; i++) {
    if (slots[i].state) sum += base::line<Thread>(slots[i].line)->live_bytes;
  }
  return sum;
}

uint32_t copy_stack_bounds(StackBounds* out) {
  base::SpinGuard guard(slots_lock);
  uint32_t n = 0;
  for (uint32_t i = 1; i <= slots_used && n < kMostStacks; i++) {
    const base::ThreadState* t = thread_in(i);
    if (t && t->stack_top && t->stack_top != reinterpret_cast<address>(__libc_stack_end)) out[n++] = {t->stack_low, t->stack_top};
  }
  return n;
}

// Before jemalloc makes its own, in its first use: destructors are called in the order of keys (nptl/nptl_deallocate_tsd.c). Without a key threads have no
// slots.
static void make_exit_key() { have_key = have_key || pthread_key_create(&key, at_thread_exit) == 0; }

bool make_slots() {
  make_exit_key();
  return slots || (slots = static_cast<Slot*>(base::map_private(kMaxThreads * sizeof(Slot))));
}

void forget_threads() {
  slots_lock.reset();
  for (uint32_t i = 1; i <= slots_used; i++) slots[i].generation++, slots[i].state = nullptr;
  slots_used = first_free = slots_taken = 0;
  std::fill(slotless, slotless + kSlotless, nullptr);
  many_threads = false;
  threads_vanished = false;   // jemalloc forgets the caches of the parent's threads, too
}

void reset_thread_locks() { slots_lock.reset(); }
void lock_threads() { slots_lock.lock(); }
void unlock_threads() { slots_lock.unlock(); }

}  // namespace tidemark::heap
