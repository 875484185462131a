// What every victim shares: functions that surely are a frame of their own, and the table of what a report must show for them.
#pragma once
#include <cstddef>
#include <cstdio>
#include <unistd.h>

// dprintf, but without a block for a buffer: a victim's own table must not be in its figures.
#define SAY(...)                                                              \
  do {                                                                        \
    char say_text[512];                                                       \
    int say_length = snprintf(say_text, sizeof say_text, __VA_ARGS__);        \
    if (write(1, say_text, size_t(say_length)) < 0) break; /* it is closed */ \
  } while (0)

// A call site: never inlined, cloned, merged with a twin, or left by a tail call (see keep()). The C name is what reports show.
#define SITE extern "C" __attribute__((noipa))
// A frame between main and a site.
#define FRAME __attribute__((noipa))

// The compiler can neither drop the allocation that gave p nor make its call a tail call.
template <class T>
inline T* keep(T* p) {
  asm volatile("" : "+r"(p) : : "memory");
  return p;
}

// One line of the table. Counts are what the program knows to have done, not what it asked any allocator about.
inline void expect_bytes(const char* site, long allocated_count, long allocated_bytes, long freed_count, long freed_bytes) {
  SAY("{\"pid\":%d,\"site\":\"%s\",\"allocated_count\":%ld,\"allocated_bytes\":%ld,\"freed_count\":%ld,\"freed_bytes\":%ld}\n",
      getpid(), site, allocated_count, allocated_bytes, freed_count, freed_bytes);
}
inline void expect(const char* site, long allocated, long size, long freed) {
  expect_bytes(site, allocated, allocated * size, freed, freed * size);
}
// The frames of every stack of that site begin with these functions, innermost (the site's caller) first.
inline void expect_callers(const char* site, const char* callers) {
  SAY("{\"pid\":%d,\"site\":\"%s\",\"callers\":\"%s\"}\n", getpid(), site, callers);
}
// Blocks of that site that this fork child was born with and has not freed.
inline void expect_inherited(const char* site, long count, long size) {
  SAY("{\"pid\":%d,\"site\":\"%s\",\"inherited_live_count\":%ld,\"inherited_live_bytes\":%ld}\n", getpid(), site, count,
      count * size);
}
// Whether this process must have a region of its own.
inline void expect_region(bool wanted, int pid = getpid()) { SAY("{\"pid\":%d,\"region\":%s}\n", pid, wanted ? "true" : "false"); }
