// What a hook asks where the session word is not the one its thread knows: whether this call is recorded, and what must be done before. And whether a hook that
// was interrupted is still there.
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "preload/heap/session.h"
#include "preload/heap/tracker.h"

extern "C" void* __libc_stack_end;   // ld.so: the main thread's stack lies below

namespace tidemark::heap {
using namespace format;

constinit uint32_t session_serial = 0, grace_allocations = 0;
constinit int64_t grace_end_ns = 0;
constinit bool without_keeper = false;

namespace {
constinit std::atomic<uint32_t> stack_at{0};   // where glibc keeps a thread's stack: bytes from the thread pointer; 0: not known yet

// The main thread's stack lies under what ld.so was started with, and the kernel keeps 128 MiB below that free of mappings
// (arch/x86/mm/mmap.c, mmap_base); any other thread's is known to glibc. Which must not be asked here: pthread_getattr_np takes a lock of
// the thread, and allocates under it itself.
void find_stack(base::ThreadState& t) {
  constexpr address kMainStack = 64 << 20;
  auto here = reinterpret_cast<address>(__builtin_frame_address(0)), top = reinterpret_cast<address>(__libc_stack_end);
  t.forget_stack();
  if (t.stack_lost) return;
  auto begin = [&](address low, address end) {
    t.set_stack(t.stack_floor > low && t.stack_floor < end ? t.stack_floor : low, end);
    if (__atomic_load_n(&t.stack_lost, __ATOMIC_ACQUIRE)) t.forget_stack();   // another thread did it meanwhile
  };
  if (here < top && top - here < kMainStack) return begin(top - kMainStack, top);
  uint32_t at = stack_at.load(std::memory_order_relaxed);
  if (!at || base::is_main_thread()) return;
  auto self = reinterpret_cast<address>(__builtin_thread_pointer());
  address low = base::load(self + at), bytes = base::load(self + at + 8);
  if (here - low >= bytes || self - low >= bytes) return;
  begin(low, low + bytes);
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
}  // namespace

// glibc's struct pthread has two words, stackblock and stackblock_size, one behind the other (nptl/descr.h, since 2.0), and behind them the guard's size; where,
// its versions differ. They are found in a thread of ours: its frames lie between the ends that they give, the struct itself under the upper one. There must be
// one such place alone. pthread_getattr_np is not asked: it allocates, by the program's own malloc where it has one, which may know of no threads.
void learn_thread_layout() {
  constexpr address kSearched = 2048, kAbove = 16 << 10;   // the struct is larger than the one (2304 bytes in 2.36), and ends its stack within the other
  constexpr address kLargest = 64 << 20;                   // of a stack of ours, which may be one that glibc kept
  auto self = reinterpret_cast<address>(__builtin_thread_pointer()), here = reinterpret_cast<address>(__builtin_frame_address(0));
  if (stack_at.load()) return;
  address found = 0, places = 0;
  for (address at = 8; at + 24 <= kSearched; at += 8) {
    address block = base::load(self + at), bytes = base::load(self + at + 8), guard = base::load(self + at + 16);
    bool is_stack = here - block < bytes && block + bytes - self < kAbove && bytes < kLargest;
    if (is_stack && !((block | guard) % format::kPageBytes) && guard < bytes) found = at, places++;
  }
  if (places == 1) stack_at.store(uint32_t(found));
}

bool own_thread_stack(address& low, address& top) {
  uint32_t at = stack_at.load();
  auto self = reinterpret_cast<address>(__builtin_thread_pointer());
  if (!at) return false;
  low = base::load(self + at);
  top = low + base::load(self + at + 8);
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

// A clock that goes on with the kernel's own ticks, of 1 to 10 ms: read from a page of the process's, whatever the machine's clock is.
int64_t coarse_ns(clockid_t clock) {
  timespec now;
  clock_gettime(clock, &now);
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}
bool time_is_up() { return TIDEMARK_UNLIKELY(grace_end_ns) && coarse_ns(CLOCK_MONOTONIC_COARSE) >= grace_end_ns; }

// What else would be the keeper's: while the program calls, its time goes on. Of several threads the latest is right.
void advance_time() {
  Header& h = base::header();
  int64_t now = coarse_ns(CLOCK_MONOTONIC_COARSE), since = now - h.started_monotonic_ns;
  uint32_t tick = since > 0 ? uint32_t(since / kTickNs) : 0, before = __atomic_load_n(&h.tick, __ATOMIC_RELAXED);
  if (TIDEMARK_LIKELY(tick <= before)) return;
  if (!__atomic_compare_exchange_n(&h.tick, &before, tick, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) return;
  h.heartbeat_monotonic_ns = now;
  h.heartbeat_realtime_ns = coarse_ns(CLOCK_REALTIME_COARSE);
}
bool was_last_allocation() {
  return __atomic_load_n(&grace_allocations, __ATOMIC_RELAXED) != 0 && __atomic_sub_fetch(&grace_allocations, 1, __ATOMIC_RELAXED) == 0;
}

// Once: should the move fail, it is not tried at each call (try_to_end_grace, keeper/session.cpp). A vfork child has its parent's memory and ends soon:
// the region would get its name and number, so the next call of the parent itself it is.
bool grace_has_passed(Call call) {
  const bool time = time_is_up();
  if (TIDEMARK_LIKELY(!time && (call == Call::kOther || !was_last_allocation()))) return false;
  if (TIDEMARK_UNLIKELY(base::header().pid != int32_t(syscall(SYS_getpid)))) {
    __atomic_store_n(&grace_allocations, 1, __ATOMIC_RELAXED);
    return false;
  }
  if (time) __atomic_store_n(&grace_end_ns, 0, __ATOMIC_RELAXED);
  return true;
}

Gate ask_gate(Call call) {
  base::ThreadState& t = base::thread_state;
  for (;;) {
    t.busy = base::kBusy;
    base::compiler_barrier();
    uint32_t word = __atomic_load_n(base::session_word, __ATOMIC_ACQUIRE);
    switch (word) {
      case base::kInert:
        if (t.deferred) release_deferred(t, false);
        t.busy = 0;
        return Gate::kPass;
      case base::kFrozen: t.busy = 0; base::wait_while_frozen(); continue;
      case base::kUnstarted: call_session(t, session_calls.start_early); continue;
      case base::kWiped: call_session(t, session_calls.begin_child); continue;
      case base::kGrace:
        if (join_session(t)) continue;
        if (TIDEMARK_UNLIKELY(without_keeper)) advance_time();
        if (t.deferred) release_deferred(t, true);
        if (!grace_has_passed(call)) return Gate::kTrack;
        call_session(t, session_calls.grace_is_over);
        continue;
      default:
        if (join_session(t)) continue;
        if (TIDEMARK_UNLIKELY(without_keeper)) advance_time();
        // Before the look at what is deferred: a handler that adds to it takes this back.
        t.generation = TIDEMARK_LIKELY(!without_keeper) ? word : base::kNoSession;
        if (t.deferred) release_deferred(t, true);
        return Gate::kTrack;
    }
  }
}
}  // namespace

// busy is set, and the word is not the serial this thread knows. While the gate is asked, nobody may jump out; then the hook goes on as it came.
TIDEMARK_COLD Gate pass_gate(Call call) {
  base::ThreadState& t = base::thread_state;
  int saved = errno;
  address hook = t.busy;
  Gate gate = ask_gate(call);
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

}  // namespace tidemark::heap
