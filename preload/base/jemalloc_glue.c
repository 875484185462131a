// What our jemalloc asks of the outside, answered so that nothing meant for the host's allocator reaches it.
#include "preload/base/jemalloc.h"

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

// Instead of secure_getenv and readlink: a MALLOC_CONF or an /etc/malloc.conf is meant for the host's own jemalloc, and could
// make ours print, profile or abort.
char* tmje_secure_getenv(const char* name);
char* tmje_secure_getenv(const char* name) {
  (void)name;
  return NULL;
}

ssize_t tmje_readlink(const char* path, char* buffer, size_t size);
ssize_t tmje_readlink(const char* path, char* buffer, size_t size) {
  (void)path, (void)buffer, (void)size;
  return -1;
}

// Mutexes. A program or a library may have functions of its own by these names, versions make no difference: a statically linked sanitizer's crash before it
// has begun, and a wrapper that looks for the next one in its constructor has not found it yet.
static struct tmje_mutex_functions mutexes = {pthread_mutex_init, pthread_mutex_lock, pthread_mutex_trylock, pthread_mutex_unlock};
void tmje_use_mutexes(const struct tmje_mutex_functions* functions) { mutexes = *functions; }

int tmje_mutex_init(pthread_mutex_t* mutex, const pthread_mutexattr_t* attributes) { return mutexes.init(mutex, attributes); }
int tmje_mutex_lock(pthread_mutex_t* mutex) { return mutexes.lock(mutex); }
int tmje_mutex_trylock(pthread_mutex_t* mutex) { return mutexes.trylock(mutex); }
int tmje_mutex_unlock(pthread_mutex_t* mutex) { return mutexes.unlock(mutex); }

// Fork handlers. jemalloc registers its own when it is first used, which may be before or after the shim's constructor: both are
// run from one registration, made by whichever comes first, so that their order does not depend on it. (pthread_atfork prepares
// from the last registered to the first: whoever comes later is prepared while the heap still works.)
struct fork_handlers {
  void (*before)(void);
  void (*after_in_parent)(void);
  void (*after_in_child)(void);
};
static struct fork_handlers jemalloc_handlers, shim_handlers;
static bool jemalloc_prepared;  // guarded by the locks that jemalloc's `before` takes
static bool registered;

static void call(void (*handler)(void)) {
  if (handler != NULL) handler();
}

// A handler of a signal that interrupted the allocator forks, as crash handlers do: its locks may be held below it, and must not be
// waited for. glibc's malloc survives that in a process of one thread.
static bool (*inside_allocator)(void);
static bool inside(void) { return inside_allocator != NULL && inside_allocator(); }

static void before_fork(void) {
  if (inside()) return;
  call(shim_handlers.before);
  if (jemalloc_handlers.before == NULL) return;
  jemalloc_handlers.before();
  jemalloc_prepared = true;
}

static bool was_prepared(void) {
  const bool was = jemalloc_prepared;
  jemalloc_prepared = false;
  return was;
}

static void after_fork_in_parent(void) {
  if (inside()) return;
  if (was_prepared()) jemalloc_handlers.after_in_parent();
  call(shim_handlers.after_in_parent);
}

static void after_fork_in_child(void) {
  if (!inside() && was_prepared()) jemalloc_handlers.after_in_child();
  call(shim_handlers.after_in_child);
}

static int register_once(void) {
  if (__atomic_exchange_n(&registered, true, __ATOMIC_ACQ_REL)) return 0;
  return pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

int tmje_pthread_atfork(void (*before)(void), void (*in_parent)(void), void (*in_child)(void));
int tmje_pthread_atfork(void (*before)(void), void (*in_parent)(void), void (*in_child)(void)) {
  jemalloc_handlers = (struct fork_handlers){before, in_parent, in_child};
  return register_once();
}

void tmje_on_fork(bool (*inside)(void), void (*before)(void), void (*after_in_parent)(void), void (*after_in_child)(void)) {
  inside_allocator = inside;
  shim_handlers = (struct fork_handlers){before, after_in_parent, after_in_child};
  register_once();
}

// base/ranges.cpp: which mappings are the allocator's.
void tidemark_note_mapping(const void* start, size_t bytes);
void tidemark_note_unmapping(const void* start, size_t bytes);

// jemalloc maps with MAP_NORESERVE, by which the kernel grants any size at all. glibc's malloc does not: a request for more than
// the machine can hold fails, and programs count on that.
void* tmje_mmap(void* address, size_t length, int protection, int flags, int file, off_t offset);
void* tmje_mmap(void* address, size_t length, int protection, int flags, int file, off_t offset) {
  void* at = (void*)syscall(SYS_mmap, address, length, protection, flags & ~MAP_NORESERVE, file, offset);   // past our own hook
  if (at != MAP_FAILED) tidemark_note_mapping(at, length);
  return at;
}

int tmje_munmap(void* address, size_t length);
int tmje_munmap(void* address, size_t length) {
  tidemark_note_unmapping(address, length);   // before it: the next moment the addresses may be somebody else's
  return (int)syscall(SYS_munmap, address, length);
}

// Where mmap has failed. libc's other name for it: no hook of ours, nothing to look up.
void* __sbrk(intptr_t increment);
void* tmje_sbrk(intptr_t increment);
void* tmje_sbrk(intptr_t increment) {
  void* at = __sbrk(increment);
  if (at != (void*)-1 && increment > 0) tidemark_note_mapping(at, (size_t)increment);
  return at;
}

// Makes pages zero that a block gets anew. jemalloc gives them back to the kernel for that, however few: a system call, and a fault for each page that is
// used again, 0.7 to 6 us. Each thread that starts pays for it (its cache is such a block), and each calloc of some pages. From where on
// the kernel should do it is glibc's own choice, M_MMAP_THRESHOLD.
bool je_pages_purge_forced(void* address, size_t bytes);   // true: they are not zero
void je_ehooks_default_zero_impl(void* address, size_t bytes);
void je_ehooks_default_zero_impl(void* address, size_t bytes) {
  enum { kKernelsBusiness = 128 * 1024 };
  if (bytes < kKernelsBusiness || je_pages_purge_forced(address, bytes)) memset(address, 0, bytes);
}

// Fills a thread's cache of one size from the arena's slabs. jemalloc takes a hundred blocks at once, also for a thread that will ask for two: most of a
// short thread's time in it goes to give them all back. So it begins with a few, and takes twice as many each time as were asked for since the last time.
// (__wrap_, __real_: ld's --wrap.)
void __real_je_arena_cache_bin_fill_small(void* tsdn, void* arena, void* cache_bin, void* info, unsigned bin, unsigned blocks);
void __wrap_je_arena_cache_bin_fill_small(void* tsdn, void* arena, void* cache_bin, void* info, unsigned bin, unsigned blocks);
void __wrap_je_arena_cache_bin_fill_small(void* tsdn, void* arena, void* cache_bin, void* info, unsigned bin, unsigned blocks) {
  enum { kFewest = 8 };
  struct CacheBin {   // how jemalloc 5.3's cache_bin_t begins
    void** stack_head;
    unsigned long requests;   // since the last filling or flush
  };
  unsigned long enough = ((const struct CacheBin*)cache_bin)->requests * 2;
  if (enough < kFewest) enough = kFewest;
  __real_je_arena_cache_bin_fill_small(tsdn, arena, cache_bin, info, bin, enough < blocks ? (unsigned)enough : blocks);
}

// Which arena a new thread's cache takes its blocks from. Where there is no memory for one of its own jemalloc finds none, and uses it all the same: the thread's
// first call, of the keeper's too, ended the process. The first arena is always there. The thread is bound to it, as jemalloc would, for ld redirects no call
// from where the real one is: malloc itself would ask again, and take its cache away from there (arena_choose_impl). je_arena_migrate takes from the arena's
// count of threads what it adds.
void je_arena_nthreads_inc(void* arena, bool internal);
void je_arena_migrate(void* tsd, void* from, void* to);
void* __real_je_arena_choose_hard(void* tsd, bool internal);
void* __wrap_je_arena_choose_hard(void* tsd, bool internal);
extern void* je_arenas[];
void* __wrap_je_arena_choose_hard(void* tsd, bool internal) {
  void* arena = __real_je_arena_choose_hard(tsd, internal);
  if (arena != NULL) return arena;
  arena = __atomic_load_n(&je_arenas[0], __ATOMIC_ACQUIRE);
  if (internal) return arena;
  je_arena_nthreads_inc(arena, false);
  je_arena_migrate(tsd, arena, arena);
  return arena;
}

// Where there is no memory for a new thread's cache at all, jemalloc says that there is one, and uses what is not there. So it is said that there is none: such
// a thread asks its arena each time. What the real one does, but for what follows when its last part fails. jemalloc 5.3's tsd_t begins with the flag.
extern bool je_opt_tcache;
void je_tsd_slow_update(void* tsd);
bool je_tsd_tcache_data_init(void* tsd);   // true: it failed
bool __wrap_je_tsd_tcache_enabled_data_init(void* tsd);
static void say_whether_cached(bool* tsd, bool cached) {
  *tsd = cached;
  je_tsd_slow_update(tsd);
}
bool __wrap_je_tsd_tcache_enabled_data_init(void* tsd) {
  say_whether_cached(tsd, je_opt_tcache);
  if (je_opt_tcache && je_tsd_tcache_data_init(tsd)) say_whether_cached(tsd, false);
  return false;
}

// When the last thread of an arena ends, jemalloc gives all of its free pages back to the kernel, for from then on nobody would look after them; whoever
// starts next pays for a fault each. Not where somebody does look after them.
bool tmje_decay_is_called = false;
void je_arena_decay(void* tsdn, void* arena, bool is_background_thread, bool all);
void tmje_decay_at_thread_end(void* tsdn, void* arena, bool is_background_thread, bool all);
void tmje_decay_at_thread_end(void* tsdn, void* arena, bool is_background_thread, bool all) {
  je_arena_decay(tsdn, arena, is_background_thread, all && !__atomic_load_n(&tmje_decay_is_called, __ATOMIC_RELAXED));
}

extern const char je_ehooks_default_extent_hooks[];
bool tmje_are_own_hooks(const void* extent_hooks) { return extent_hooks == (const void*)je_ehooks_default_extent_hooks; }

// What jemalloc does at a thread's end holds its locks: a signal handler that comes then must find the thread inside a hook. (base/thread_state.cpp)
void tidemark_call_as_hook(void (*call)(void*), void* argument);
static void (*jemalloc_at_end)(void*);
static void at_thread_end(void* state) { tidemark_call_as_hook(jemalloc_at_end, state); }

int tmje_pthread_key_create(pthread_key_t* key, void (*at_end)(void*));
int tmje_pthread_key_create(pthread_key_t* key, void (*at_end)(void*)) {
  jemalloc_at_end = at_end;   // there is but one: tsd.c
  return pthread_key_create(key, at_thread_end);
}

// What only its heap profiler calls, which stays off: neither libgcc_s nor libm is loaded for it.
int tmje_no_backtrace(void* visit, void* argument);
int tmje_no_backtrace(void* visit, void* argument) {
  (void)visit, (void)argument;
  return 5;  // _URC_END_OF_STACK
}

unsigned long tmje_no_ip(void* context);
unsigned long tmje_no_ip(void* context) {
  (void)context;
  return 0;
}

double tmje_no_exp(double x);
double tmje_no_log(double x);
double tmje_no_round(double x);
double tmje_no_exp(double x) { return x; }
double tmje_no_log(double x) { return x; }
double tmje_no_round(double x) { return x; }

// Written out: __builtin_popcountl would call libgcc_s's again.
int tmje_popcount(unsigned long bits);
int tmje_popcount(unsigned long bits) {
  bits -= (bits >> 1) & 0x5555555555555555;
  bits = (bits & 0x3333333333333333) + ((bits >> 2) & 0x3333333333333333);
  bits = (bits + (bits >> 4)) & 0x0f0f0f0f0f0f0f0f;
  return (int)((bits * 0x0101010101010101) >> 56);
}

static void discard(void* argument, const char* text) { (void)argument, (void)text; }

// The shim writes nothing on the target's standard error. hooks/ passes its own writer where the target asks for a print.
void (*tmje_malloc_message)(void*, const char*) = discard;

// jemalloc's defaults are kept (decay times above all), only made explicit where they must not change with a build: no thread of
// its own unless the host asks by mallctl, no abort, no print, no profiler. And one is changed: a thread's cache is looked through for blocks that lie idle
// each MiB it allocates, not each 64 KiB.
const char* const tmje_malloc_conf =
    "background_thread:false,abort:false,abort_conf:false,stats_print:false,prof:false,tcache_gc_incr_bytes:1048576";

const char* tmje_malloc_conf_2_conf_harder = NULL;
