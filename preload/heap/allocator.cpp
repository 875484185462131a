#include "preload/heap/allocator.h"

#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstring>

#include "preload/base/jemalloc.h"
#include "preload/base/spin_lock.h"
#include "preload/base/store.h"
#include "preload/base/thread_state.h"
#include "preload/format/region.h"
#include "preload/heap/threads.h"

namespace tidemark::heap {
namespace {

// jemalloc's MALLCTL_ARENAS_ALL (its header is not included, see base/jemalloc.h).
#define TIDEMARK_ALL_ARENAS "4096"
constexpr uint64_t kMaxArenas = 1024;

// The first mallctl of a process takes statistics, whatever it asks for.
constinit std::atomic<bool> has_statistics{false};

template <class T>
T ask(const char* name) {
  T value{};
  size_t length = sizeof(value);
  return tmje_mallctl(name, &value, &length, nullptr, 0) == 0 ? value : T{};
}
template <class T>
bool tell(const char* name, T value) {
  return tmje_mallctl(name, nullptr, nullptr, &value, sizeof(value)) == 0;
}
}  // namespace

bool refresh_statistics() {
  if (threads_vanished.load(std::memory_order_relaxed) || !tell("epoch", uint64_t{1})) return false;
  has_statistics.store(true, std::memory_order_relaxed);
  return true;
}

void read_allocator(format::HeapFigures& out) {
  look_for_vanished_threads();
  if (!refresh_statistics()) base::count(format::kAllocatorUnread);
  if (!has_statistics.load(std::memory_order_relaxed)) return;
  out.allocated = ask<size_t>("stats.allocated");
  out.active = ask<size_t>("stats.active");
  out.metadata = ask<size_t>("stats.metadata");
  out.resident = ask<size_t>("stats.resident");
  out.retained = ask<size_t>("stats.retained");
  out.dirty = ask<size_t>("stats.arenas." TIDEMARK_ALL_ARENAS ".pdirty") * format::kPageBytes;
  out.muzzy = ask<size_t>("stats.arenas." TIDEMARK_ALL_ARENAS ".pmuzzy") * format::kPageBytes;
}

namespace {
// Held while an arena gives its free pages away: jemalloc itself holds no lock by then (ctl.c, arena_i_decay), and its fork handlers know nothing of it (a
// child would find the arena marked as being purged for ever: pac.c, pac_decay_to_limit).
constinit base::SpinLock arenas_lock;

constinit std::atomic<uint32_t> arenas_awaited{0};

// A handler that left by siglongjmp would take the lock along.
class ArenasGuard {
 public:
  ArenasGuard() { lock_arenas(); }
  ~ArenasGuard() { unlock_arenas(); }
  ArenasGuard(const ArenasGuard&) = delete;
  ArenasGuard& operator=(const ArenasGuard&) = delete;

 private:
  base::NoHandlers no_handlers_;
};

// Between two arenas: who waits mostly sleeps, and would not see the lock free otherwise. Not for ever, for it may not be there any more.
void let_others_in() {
  constexpr int kTimes = 10;
  constexpr timespec kBriefly{0, 200'000};
  for (int i = 0; i < kTimes && arenas_awaited.load(std::memory_order_relaxed); i++) syscall(SYS_nanosleep, &kBriefly, nullptr);
}

// arena.<i>.*, by number.
class OfArena {
 public:
  explicit OfArena(const char* of_first) { known_ = tmje_mallctlnametomib(of_first, mib_, &length_) == 0; }
  template <class T>
  bool read(size_t arena, T& value) { return call(arena, &value, nullptr, sizeof(value)); }
  template <class T>
  bool write(size_t arena, T value) { return call(arena, nullptr, &value, sizeof(value)); }
  bool invoke(size_t arena) { return call(arena, nullptr, nullptr, 0); }

 private:
  bool call(size_t arena, void* old, void* value, size_t bytes) {
    mib_[1] = arena;
    return known_ && tmje_mallctlbymib(mib_, length_, old, old ? &bytes : nullptr, value, value ? bytes : 0) == 0;
  }

  size_t mib_[3] = {}, length_ = 3;
  bool known_;
};

// Each arena whose pages jemalloc itself gets and gives back. Where functions of the program do, which it may count on calling from threads of its own alone,
// the arena is left alone; true: there is none such.
template <class Tell>
bool tell_arenas(Tell tell) {
  OfArena hooks_of("arena.0.extent_hooks");
  bool all = true;
  for (unsigned i = 0, arenas = ask<unsigned>("arenas.narenas"); i < arenas; i++, let_others_in()) {
    ArenasGuard guard;
    const void* hooks = nullptr;
    if (!hooks_of.read(i, hooks)) continue;   // it is gone
    if (tmje_are_own_hooks(hooks)) tell(i);
    else all = false;
  }
  return all;
}
}  // namespace

void purge_allocator() {
  if (!has_statistics.load(std::memory_order_relaxed)) return;
  OfArena purge("arena.0.purge");
  tell_arenas([&](unsigned arena) { purge.invoke(arena); });
}

void decay_allocator() {
  if (!has_statistics.load(std::memory_order_relaxed)) return;
  OfArena decay("arena.0.decay");
  bool all = tell_arenas([&](unsigned arena) { decay.invoke(arena); });
  __atomic_store_n(&tmje_decay_is_called, all, __ATOMIC_RELAXED);
}
void stop_decay() { __atomic_store_n(&tmje_decay_is_called, false, __ATOMIC_RELAXED); }

void lock_arenas() {
  if (*base::session_word == base::kWiped) reset_arenas_lock();   // a child of a bare clone: whoever of ours held it is not there
  arenas_awaited.fetch_add(1, std::memory_order_relaxed);
  arenas_lock.lock();
  arenas_awaited.fetch_sub(1, std::memory_order_relaxed);
}
void unlock_arenas() { arenas_lock.unlock(); }
void reset_arenas_lock() {
  arenas_lock.reset();
  arenas_awaited = 0;
}
int without_purge(int (*call)(void*), void* argument) {
  ArenasGuard guard;
  return call(argument);
}

void set_decay(uint64_t dirty_ms, uint64_t muzzy_ms) {
  auto dirty = int64_t(dirty_ms), muzzy = int64_t(muzzy_ms);   // ssize_t to jemalloc
  tell("arenas.dirty_decay_ms", dirty);
  tell("arenas.muzzy_decay_ms", muzzy);
  OfArena dirty_of("arena.0.dirty_decay_ms"), muzzy_of("arena.0.muzzy_decay_ms");
  tell_arenas([&](unsigned arena) { dirty_of.write(arena, dirty), muzzy_of.write(arena, muzzy); });
}

bool set_background_thread(bool on) { return tell("background_thread", on); }

void choose_heap(uint64_t arenas, bool tight) {
  static char text[48];
  if (tight) strcpy(text, "retain:false");
  if (arenas) {
    if (arenas > kMaxArenas) arenas = kMaxArenas;
    char digits[8], *p = digits + sizeof(digits);
    *--p = 0;
    do *--p = char('0' + arenas % 10);
    while (arenas /= 10);
    strcat(text, tight ? ",narenas:" : "narenas:");
    strcat(text, p);
  }
  if (text[0]) tmje_malloc_conf_2_conf_harder = text;
}

}  // namespace tidemark::heap
