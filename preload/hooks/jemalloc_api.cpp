// jemalloc's own public family: a host that is linked to jemalloc (redis-server) mixes it freely with malloc and free, so both
// must meet the same heap. Its variables (malloc_conf, malloc_message) are not interposed: they stay the host's jemalloc's.
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstring>

#include "preload/base/jemalloc.h"
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

// The numbers of arena.<i>.reset and arena.<i>.destroy, by which they are called, too. Two threads may find them at once: the same ones.
struct DroppingCalls {
  size_t arena, reset, destroy;
};
constinit DroppingCalls dropping_calls{};
constinit std::atomic<bool> dropping_calls_known{false};

void learn_dropping_calls() {
  size_t mib[3] = {}, length = 3;
  if (dropping_calls_known.load(std::memory_order_acquire) || tmje_mallctlnametomib("arena.0.reset", mib, &length) != 0) return;
  __atomic_store_n(&dropping_calls.arena, mib[0], __ATOMIC_RELAXED);
  __atomic_store_n(&dropping_calls.reset, mib[2], __ATOMIC_RELAXED);
  tmje_mallctlnametomib("arena.0.destroy", mib, &(length = 3));
  __atomic_store_n(&dropping_calls.destroy, mib[2], __ATOMIC_RELAXED);
  dropping_calls_known.store(true, std::memory_order_release);
}

bool drops_arena(const size_t* mib, size_t length) {
  if (length != 3 || !dropping_calls_known.load(std::memory_order_acquire)) return false;
  return mib[0] == dropping_calls.arena && (mib[2] == dropping_calls.reset || mib[2] == dropping_calls.destroy);
}

// Whether it is a call that drops an arena's blocks, and which arena's.
bool drops_arena(const char* name, size_t& index) {
  size_t mib[3], length = 3;
  if (strncmp(name, "arena.", 6) != 0 || (!strstr(name, ".reset") && !strstr(name, ".destroy"))) return false;
  if (!ask_allocator([&] { return learn_dropping_calls(), tmje_mallctlnametomib(name, mib, &length); }) && drops_arena(mib, length)) {
    index = mib[1];
    return true;
  }
  return false;
}

template <class Call>
int drop_arena(size_t index, Call call) {
  heap::forbid_magazines();
  return heap::drop_arena(index, [](void* c) { return (*static_cast<Call*>(c))(); }, &call);
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
TIDEMARK_HOOK size_t nallocx(size_t bytes, int flags) { return tmje_nallocx(bytes, flags); }

TIDEMARK_HOOK void dallocx(void* block, int flags) { heap::release_flags(block, flags); }
TIDEMARK_HOOK void sdallocx(void* block, size_t, int flags) { heap::release_flags(block, flags); }

TIDEMARK_HOOK int mallctl(const char* name, void* old_value, size_t* old_length, void* new_value, size_t new_length) {
  look_at_name(name);
  auto call = [&] { return tmje_mallctl(name, old_value, old_length, new_value, new_length); };
  size_t index;
  return drops_arena(name, index) ? drop_arena(index, call) : ask_allocator(call);
}

TIDEMARK_HOOK int mallctlnametomib(const char* name, size_t* mib, size_t* mib_length) {
  look_at_name(name);
  if (strncmp(name, "arena.", 6) == 0) ask_allocator([] { return learn_dropping_calls(), 0; });   // before it can be called by number
  return ask_allocator([&] { return tmje_mallctlnametomib(name, mib, mib_length); });
}

TIDEMARK_HOOK int mallctlbymib(const size_t* mib, size_t mib_length, void* old_value, size_t* old_length, void* new_value,
                               size_t new_length) {
  auto call = [&] { return tmje_mallctlbymib(mib, mib_length, old_value, old_length, new_value, new_length); };
  return drops_arena(mib, mib_length) ? drop_arena(mib[1], call) : ask_allocator(call);
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
