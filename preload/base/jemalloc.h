// jemalloc as the shim holds it: Debian's archive with every public name renamed to tmje_* (preload/jemalloc.cmake). Only what is
// used is declared here: <jemalloc/jemalloc.h> would bring the public names back.
#pragma once
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

void* tmje_malloc(size_t bytes);
void* tmje_calloc(size_t count, size_t bytes);
void* tmje_realloc(void* block, size_t bytes);
void tmje_free(void* block);
void* tmje_memalign(size_t alignment, size_t bytes);
void* tmje_aligned_alloc(size_t alignment, size_t bytes);
int tmje_posix_memalign(void** block, size_t alignment, size_t bytes);
void* tmje_valloc(size_t bytes);
size_t tmje_malloc_usable_size(const void* block);

void* tmje_mallocx(size_t bytes, int flags);
void* tmje_rallocx(void* block, size_t bytes, int flags);
size_t tmje_xallocx(void* block, size_t bytes, size_t extra, int flags);
size_t tmje_sallocx(const void* block, int flags);
void tmje_dallocx(void* block, int flags);
void tmje_sdallocx(void* block, size_t bytes, int flags);
size_t tmje_nallocx(size_t bytes, int flags);

int tmje_mallctl(const char* name, void* old_value, size_t* old_length, void* new_value, size_t new_length);
int tmje_mallctlnametomib(const char* name, size_t* mib, size_t* mib_length);
int tmje_mallctlbymib(const size_t* mib, size_t mib_length, void* old_value, size_t* old_length, void* new_value,
                      size_t new_length);
// A null `write` would print through tmje_malloc_message, which is silent here.
void tmje_malloc_stats_print(void (*write)(void*, const char*), void* argument, const char* options);

// Functions to run around jemalloc's own fork handlers, so that they always find a working heap: `before` before jemalloc locks
// up, the others after it is usable again. Called once; makes no use of the heap. Where `inside` says that the forking thread has been
// interrupted inside the allocator, only `after_in_child` runs.
void tmje_on_fork(bool (*inside)(void), void (*before)(void), void (*after_in_parent)(void), void (*after_in_child)(void));

// libc's own, which jemalloc's mutexes are locked by from now on: before any is held. Until then by whatever the program's are.
struct tmje_mutex_functions {
  int (*init)(pthread_mutex_t*, const pthread_mutexattr_t*);
  int (*lock)(pthread_mutex_t*);
  int (*trylock)(pthread_mutex_t*);
  int (*unlock)(pthread_mutex_t*);
};
void tmje_use_mutexes(const struct tmje_mutex_functions* functions);
int tmje_mutex_init(pthread_mutex_t* mutex, const pthread_mutexattr_t* attributes);
int tmje_mutex_lock(pthread_mutex_t* mutex);
int tmje_mutex_trylock(pthread_mutex_t* mutex);
int tmje_mutex_unlock(pthread_mutex_t* mutex);

bool tmje_are_own_hooks(const void* extent_hooks);   // those that an arena has by itself
extern bool tmje_decay_is_called;   // somebody calls arena.<i>.decay again and again; see jemalloc_glue.c
extern const char* const tmje_malloc_conf;
extern const char* tmje_malloc_conf_2_conf_harder;   // read once, when the heap is first used; wins over the other one; may be null
extern void (*tmje_malloc_message)(void*, const char*);

#ifdef __cplusplus
}

// The flag encodings of jemalloc 5, all that the extended API's `int flags` hold.
namespace tidemark::jemalloc {
inline constexpr int kZero = 0x40;
inline constexpr int kNoTcache = 1 << 8;  // MALLOCX_TCACHE_NONE
constexpr int lg_align(unsigned log2) { return static_cast<int>(log2); }
constexpr int align(size_t alignment) { return __builtin_ctzl(alignment); }  // alignment: a power of two
constexpr bool names_arena(int flags) { return flags >> 20 != 0; }
constexpr int arena(unsigned index) { return static_cast<int>(index + 1) << 20; }
constexpr size_t alignment_of(int flags) { return size_t{1} << (flags & 0x3f); }  // 1: none asked
constexpr bool zeroes(int flags) { return flags & kZero; }
}  // namespace tidemark::jemalloc
#endif
