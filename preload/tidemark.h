/* For programs that want to tell tidemark something, or ask it. C and C++; nothing to link: without libtidemark.so in the process every call does
 * nothing. Any thread, not in signal handlers. */
#ifndef TIDEMARK_H
#define TIDEMARK_H
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct tidemark_statistics {
  uint64_t live_bytes;      /* requested bytes of all live blocks */
  uint64_t peak_live_bytes;
  uint64_t rss_bytes;       /* of the latest sample (option sample_interval); 0: none yet */
  uint64_t baseline_rss_bytes;
  uint64_t purges, warnings;
};

/* What libtidemark.so has, if it is there. Call the functions below instead. */
int tidemark_shim_stats(struct tidemark_statistics*, size_t) __attribute__((weak));
int tidemark_shim_cleanup(void) __attribute__((weak));
void tidemark_shim_mark(const char*) __attribute__((weak));

/* 0: filled in; -1: not recorded. */
static inline int tidemark_stats(struct tidemark_statistics* out) {
  return tidemark_shim_stats ? tidemark_shim_stats(out, sizeof(*out)) : -1;
}

/* Asks for a purge of the allocator's free pages; it is done soon, by another thread. 0: asked for; -1: not recorded. */
static inline int tidemark_cleanup(void) { return tidemark_shim_cleanup ? tidemark_shim_cleanup() : -1; }

/* Something that happens again and again has happened: tidemark_mark("call started"). The report tells how many bytes stayed behind for each.
 * Up to 64 names of up to 63 characters. */
static inline void tidemark_mark(const char* name) {
  if (tidemark_shim_mark) tidemark_shim_mark(name);
}

#ifdef __cplusplus
}
#endif
#endif
