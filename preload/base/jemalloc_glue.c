// What our jemalloc asks of the outside, answered so that nothing meant for the host's allocator reaches it.
#include "preload/base/jemalloc.h"

#include <sys/mman.h>
#include <sys/types.h>

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

// jemalloc maps with MAP_NORESERVE, by which the kernel grants any size at all. glibc's malloc does not: a request for more than
// the machine can hold fails, and programs count on that.
void* tmje_mmap(void* address, size_t length, int protection, int flags, int file, off_t offset);
void* tmje_mmap(void* address, size_t length, int protection, int flags, int file, off_t offset) {
  return mmap(address, length, protection, flags & ~MAP_NORESERVE, file, offset);
}

// Instead of libgcc_s's _Unwind_Backtrace and _Unwind_GetIP, which only its heap profiler calls; that stays off, and the
// unwinder is not loaded for it.
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

static void discard(void* argument, const char* text) { (void)argument, (void)text; }

// The shim writes nothing on the target's standard error. hooks/ passes its own writer where the target asks for a print.
void (*tmje_malloc_message)(void*, const char*) = discard;

// jemalloc's defaults are kept (decay times above all), only made explicit where they must not change with a build: no thread of
// its own unless the host asks by mallctl, no abort, no print, no profiler.
const char* const tmje_malloc_conf = "background_thread:false,abort:false,abort_conf:false,stats_print:false,prof:false";
