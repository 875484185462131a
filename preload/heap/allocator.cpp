#include "preload/heap/allocator.h"

#include <atomic>
#include <cstring>

#include "preload/base/jemalloc.h"
#include "preload/base/store.h"
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

void purge_allocator() {
  if (!has_statistics.load(std::memory_order_relaxed)) return;
  tmje_mallctl("arena." TIDEMARK_ALL_ARENAS ".purge", nullptr, nullptr, nullptr, 0);
}

// Of jemalloc's own arenas only: one that the program made it may destroy, in the very moment (ctl.c, arena_i_decay: no lock is held by then).
void decay_allocator() {
  if (!has_statistics.load(std::memory_order_relaxed)) return;
  unsigned own = ask<unsigned>("opt.narenas");
  bool no_others = ask<unsigned>("arenas.narenas") <= own + 1;   // behind them is the one for huge blocks, which keeps none
  __atomic_store_n(&tmje_decay_is_called, no_others, __ATOMIC_RELAXED);
  size_t decay[3], length = 3;
  if (tmje_mallctlnametomib("arena.0.decay", decay, &length) != 0) return;
  for (decay[1] = 0; decay[1] < own; decay[1]++) tmje_mallctlbymib(decay, length, nullptr, nullptr, nullptr, 0);
}
void stop_decay() { __atomic_store_n(&tmje_decay_is_called, false, __ATOMIC_RELAXED); }

void set_decay(uint64_t dirty_ms, uint64_t muzzy_ms) {
  auto dirty = int64_t(dirty_ms), muzzy = int64_t(muzzy_ms);   // ssize_t to jemalloc
  tell("arenas.dirty_decay_ms", dirty);
  tell("arenas.muzzy_decay_ms", muzzy);
  size_t dirty_of[3], muzzy_of[3], length = 3;
  if (tmje_mallctlnametomib("arena.0.dirty_decay_ms", dirty_of, &length) != 0) return;
  if (tmje_mallctlnametomib("arena.0.muzzy_decay_ms", muzzy_of, &length) != 0) return;
  unsigned arenas = ask<unsigned>("arenas.narenas");
  for (unsigned i = 0; i < arenas; i++) {   // an arena that is not in use yet says EFAULT
    dirty_of[1] = muzzy_of[1] = i;
    tmje_mallctlbymib(dirty_of, 3, nullptr, nullptr, &dirty, sizeof(dirty));
    tmje_mallctlbymib(muzzy_of, 3, nullptr, nullptr, &muzzy, sizeof(muzzy));
  }
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
