// jemalloc's own public family: a host that is linked to jemalloc (redis-server) mixes it freely with malloc and free, so both
// must meet the same heap. Its variables (malloc_conf, malloc_message) are not interposed: they stay the host's jemalloc's.
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstring>

#include "preload/base/jemalloc.h"
#include "preload/heap/allocator.h"
#include "preload/heap/dropped_arena.h"
#include "preload/heap/tracker.h"
#include "preload/hooks/caller.h"

namespace heap = tidemark::heap;

namespace {

// The program makes arenas of its own, or chooses one: from now on blocks of several may come back, and it may reset or destroy some.
void look_at_flags(int flags) {
  if (tidemark::jemalloc::names_arena(flags)) [[unlikely]]
    heap::forbid_magazines();
}
// See malloc_statistics.cpp.
template <class Call>
int ask_allocator(Call call) {
  int result = 0;
  if (!tidemark::base::as_hook([&] { result = call(); })) result = call();
  return result;
}

void look_at_name(const char* name) {
  for (const char* of_arenas : {"thread.arena", "arenas.create", "experimental.arenas_create_ext"})
    if (strcmp(name, of_arenas) == 0) heap::forbid_magazines();
}

// The numbers of what changes an arena, by which that is called, too. Two threads may find them at once: the same ones.
struct ArenaCalls {
  size_t arena, reset, destroy, extent_hooks;
};
constinit ArenaCalls arena_calls{};
constinit std::atomic<bool> arena_calls_known{false};

void learn_arena_calls() {
  size_t mib[3] = {}, length = 3;
  if (arena_calls_known.load(std::memory_order_acquire) || tmje_mallctlnametomib("arena.0.reset", mib, &length) != 0) return;
  __atomic_store_n(&arena_calls.arena, mib[0], __ATOMIC_RELAXED);
  __atomic_store_n(&arena_calls.reset, mib[2], __ATOMIC_RELAXED);
  tmje_mallctlnametomib("arena.0.destroy", mib, &(length = 3));
  __atomic_store_n(&arena_calls.destroy, mib[2], __ATOMIC_RELAXED);
  tmje_mallctlnametomib("arena.0.extent_hooks", mib, &(length = 3));
  __atomic_store_n(&arena_calls.extent_hooks, mib[2], __ATOMIC_RELAXED);
  arena_calls_known.store(true, std::memory_order_release);
}

enum class Change { kNone, kDrops, kSetsHooks };
Change change_by(const size_t* mib, size_t length, const void* new_value) {
  if (length != 3 || !arena_calls_known.load(std::memory_order_acquire) || mib[0] != arena_calls.arena) return Change::kNone;
  if (mib[2] == arena_calls.reset || mib[2] == arena_calls.destroy) return Change::kDrops;
  return mib[2] == arena_calls.extent_hooks && new_value ? Change::kSetsHooks : Change::kNone;
}
Change change_by(const char* name, const void* new_value, size_t& index) {
  size_t mib[3], length = 3;
  if (strncmp(name, "arena.", 6) != 0 || (!strstr(name, ".reset") && !strstr(name, ".destroy") && !strstr(name, ".extent_hooks"))) return Change::kNone;
  if (ask_allocator([&] { return learn_arena_calls(), tmje_mallctlnametomib(name, mib, &length); })) return Change::kNone;
  index = mib[1];
  return change_by(mib, length, new_value);
}

template <class Call>
int drop_arena(size_t index, Call& call) {
  heap::forbid_magazines();
  return heap::drop_arena(index, [](void* c) { return (*static_cast<Call*>(c))(); }, &call);
}
template <class Call>
int change_arena(Change change, size_t index, Call call) {
  if (change == Change::kNone) return ask_allocator(call);
  if (change == Change::kDrops) return drop_arena(index, call);
  int result = 0;
  bool called = tidemark::base::as_hook([&] { result = heap::without_purge([](void* c) { return (*static_cast<Call*>(c))(); }, &call); });
  return called ? result : call();
}

}  // namespace

TIDEMARK_HOOK void* mallocx(size_t bytes, int flags) {
  look_at_flags(flags);
  return heap::allocate_flags(bytes, flags, TIDEMARK_CALLER());
}

TIDEMARK_HOOK void* rallocx(void* block, size_t bytes, int flags) {
  look_at_flags(flags);
  return heap::reallocate_flags(block, bytes, flags, TIDEMARK_CALLER());
}

TIDEMARK_HOOK size_t xallocx(void* block, size_t bytes, size_t extra, int flags) {
  return heap::resize_in_place(block, bytes, extra, flags, TIDEMARK_CALLER());
}

TIDEMARK_HOOK size_t sallocx(const void* block, int) { return heap::usable_size(block); }
TIDEMARK_HOOK size_t nallocx(size_t bytes, int flags) { return heap::usable_of(bytes, tidemark::jemalloc::alignment_of(flags)); }

TIDEMARK_HOOK void dallocx(void* block, int flags) { heap::release_flags(block, flags); }
TIDEMARK_HOOK void sdallocx(void* block, size_t, int flags) { heap::release_flags(block, flags); }

TIDEMARK_HOOK int mallctl(const char* name, void* old_value, size_t* old_length, void* new_value, size_t new_length) {
  look_at_name(name);
  auto call = [&] { return tmje_mallctl(name, old_value, old_length, new_value, new_length); };
  size_t index = 0;
  Change change = change_by(name, new_value, index);
  return change_arena(change, index, call);
}

TIDEMARK_HOOK int mallctlnametomib(const char* name, size_t* mib, size_t* mib_length) {
  look_at_name(name);
  if (strncmp(name, "arena.", 6) == 0) ask_allocator([] { return learn_arena_calls(), 0; });   // before it can be called by number
  return ask_allocator([&] { return tmje_mallctlnametomib(name, mib, mib_length); });
}

TIDEMARK_HOOK int mallctlbymib(const size_t* mib, size_t mib_length, void* old_value, size_t* old_length, void* new_value,
                               size_t new_length) {
  auto call = [&] { return tmje_mallctlbymib(mib, mib_length, old_value, old_length, new_value, new_length); };
  Change change = change_by(mib, mib_length, new_value);
  return change_arena(change, change == Change::kNone ? 0 : mib[1], call);
}

namespace {

// What jemalloc's default writer does. Ours is silent; here the host itself asks for the print.
void write_to_standard_error(void*, const char* text) {
  for (size_t left = strlen(text); left > 0;) {
    const ssize_t written = write(STDERR_FILENO, text, left);
    if (written <= 0) return;
    text += written;
    left -= static_cast<size_t>(written);
  }
}

}  // namespace

TIDEMARK_HOOK void malloc_stats_print(void (*write)(void*, const char*), void* argument, const char* options) {
  tmje_malloc_stats_print(write != nullptr ? write : write_to_standard_error, argument, options);
}
