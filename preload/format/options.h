// The option table: one row each, from which the shim's parser, the command line and its help are made.
// TIDEMARK_OPTIONS=key=value:key=value. A value that holds ':' or '"' is put between double quotes; inside them \" and \\ stand
// for themselves. Booleans: 0/1/true/false/yes/no/on/off. Sizes: a number with K, M, G (powers of 1024). Times: a number with
// ms, s, m, h, d; without a unit, in the unit the row's help names.
#pragma once
#include <cstdint>

namespace tidemark::format {

// X(type, name, default, help)     types: Bool, Count, Size (bytes), Millis, Text
#define TIDEMARK_OPTION_TABLE(X)                                                                                                  \
  X(Bool, enable, "1", "0: track nothing, make no region, start no thread")                                                       \
  X(Text, dir, "", "folder for regions, created 0700 when missing; default: current folder under `tidemark run`, else /var/tmp")  \
  X(Size, region_size, "64M", "size of the launched program's region, 1M to 1G")                                                 \
  X(Size, child_region_size, "16M", "size of the region of a followed or forked child, 1M to 1G")                                \
  X(Size, regions_max, "2G", "all regions of one run together; beyond it a process runs unrecorded")                              \
  X(Millis, child_grace, "100", "milliseconds a child must live before it gets a region")                                         \
  X(Count, child_grace_allocations, "4096", "allocations after which a child gets a region at once")                              \
  X(Text, follow, "all", "which started programs are recorded: all, none, or NAME,NAME,… (base names, * and ? allowed)")          \
  X(Count, check, "0", "walk one stack in N again with libunwind and count disagreements (slow; 0: never)")                       \
  X(Text, py_malloc, "malloc", "`tidemark run` sets PYTHONMALLOC to this for a CPython; keep: leave Python's own small-block allocator")

}  // namespace tidemark::format
