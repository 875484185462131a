// The heap's own figures and controls, asked for by their glibc names and answered for jemalloc.
#include <malloc.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>

#include "preload/base/jemalloc.h"
#include "preload/base/thread_state.h"
#include "preload/heap/allocator.h"
#include "preload/hooks/caller.h"
#include "preload/hooks/foreign_heap.h"

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"  // mallinfo is; programs call it all the same

namespace base = tidemark::base;

namespace {

// What a handler allocates meanwhile must not meet jemalloc's locks. One that is itself inside the allocator takes its chance, as with glibc.
template <class Call>
void ask_allocator(Call call) {
  if (!base::as_hook(call)) call();
}

size_t read_size(const char* name) {
  size_t value = 0, length = sizeof(value);
  tmje_mallctl(name, &value, &length, nullptr, 0);
  return value;
}

struct HeapFigures {
  size_t system;     // held from the system, as far as it is resident
  size_t in_use;     // in live blocks, rounded to size classes
  size_t trimmable;  // unused pages that a trim would give back
};

HeapFigures read_figures() {
  HeapFigures figures{};
  ask_allocator([&] {
    tidemark::heap::refresh_statistics();
    // 4096 is MALLCTL_ARENAS_ALL
    const size_t unused_pages = read_size("stats.arenas.4096.pdirty") + read_size("stats.arenas.4096.pmuzzy");
    figures = {read_size("stats.resident"), read_size("stats.allocated"), unused_pages * read_size("arenas.page")};
  });
  return figures;
}

size_t unused(const HeapFigures& figures) { return figures.system > figures.in_use ? figures.system - figures.in_use : 0; }

}  // namespace

TIDEMARK_HOOK int malloc_trim(size_t pad) {
  TIDEMARK_FORWARD_IF_FOREIGN(malloc_trim, pad)
  bool less = false;
  base::as_hook([&] {   // not inside the allocator: whom this thread has interrupted may hold the arenas' lock
    tidemark::heap::refresh_statistics();
    const size_t before = read_size("stats.resident");
    tmje_mallctl("thread.tcache.flush", nullptr, nullptr, nullptr, 0);
    tidemark::heap::purge_allocator();
    tidemark::heap::refresh_statistics();
    less = read_size("stats.resident") < before;
  });
  return less;
}

// Its parameters are of glibc's algorithm. 1 is success, as there.
TIDEMARK_HOOK int mallopt(int parameter, int value) {
  TIDEMARK_FORWARD_IF_FOREIGN(mallopt, parameter, value)
  return 1;
}

TIDEMARK_HOOK struct mallinfo2 mallinfo2() {
  TIDEMARK_FORWARD_IF_FOREIGN(mallinfo2)
  const HeapFigures figures = read_figures();
  struct mallinfo2 info = {};
  info.arena = figures.system;
  info.ordblks = 1;
  info.uordblks = figures.in_use;
  info.fordblks = unused(figures);
  info.keepcost = figures.trimmable;
  return info;
}

TIDEMARK_HOOK struct mallinfo mallinfo() {
  TIDEMARK_FORWARD_IF_FOREIGN(mallinfo)
  const HeapFigures figures = read_figures();
  struct mallinfo info = {};  // its figures wrap above 2 GiB, as glibc's
  info.arena = static_cast<int>(figures.system);
  info.ordblks = 1;
  info.uordblks = static_cast<int>(figures.in_use);
  info.fordblks = static_cast<int>(unused(figures));
  info.keepcost = static_cast<int>(figures.trimmable);
  return info;
}

// Printing on standard error is what this function is for.
TIDEMARK_HOOK void malloc_stats() {
  TIDEMARK_FORWARD_IF_FOREIGN(malloc_stats)
  const HeapFigures figures = read_figures();
  fprintf(stderr,
          "Arena 0:\nsystem bytes     = %10zu\nin use bytes     = %10zu\n"
          "Total (incl. mmap):\nsystem bytes     = %10zu\nin use bytes     = %10zu\n"
          "max mmap regions = %10u\nmax mmap bytes   = %10u\n",
          figures.system, figures.in_use, figures.system, figures.in_use, 0u, 0u);
}

TIDEMARK_HOOK int malloc_info(int options, FILE* stream) {
  TIDEMARK_FORWARD_IF_FOREIGN(malloc_info, options, stream)
  if (options != 0) return EINVAL;
  const HeapFigures figures = read_figures();
  fprintf(stream,
          "<malloc version=\"1\">\n<heap nr=\"0\">\n<sizes>\n</sizes>\n"
          "<total type=\"fast\" count=\"0\" size=\"0\"/>\n<total type=\"rest\" count=\"1\" size=\"%zu\"/>\n"
          "<system type=\"current\" size=\"%zu\"/>\n<system type=\"max\" size=\"%zu\"/>\n"
          "<aspace type=\"total\" size=\"%zu\"/>\n<aspace type=\"mprotect\" size=\"%zu\"/>\n</heap>\n"
          "<total type=\"fast\" count=\"0\" size=\"0\"/>\n<total type=\"rest\" count=\"1\" size=\"%zu\"/>\n"
          "<total type=\"mmap\" count=\"0\" size=\"0\"/>\n"
          "<system type=\"current\" size=\"%zu\"/>\n<system type=\"max\" size=\"%zu\"/>\n"
          "<aspace type=\"total\" size=\"%zu\"/>\n<aspace type=\"mprotect\" size=\"%zu\"/>\n</malloc>\n",
          unused(figures), figures.system, figures.system, figures.system, figures.system,  //
          unused(figures), figures.system, figures.system, figures.system, figures.system);
  return 0;
}
