// The option table: one row each, from which the shim's parser, the command line and its help are made.
// TIDEMARK_OPTIONS=key=value:key=value. A value that holds ':' or '"' is put between double quotes; inside them \" and \\ stand
// for themselves. Booleans: 0/1/true/false/yes/no/on/off. Sizes: a number with K, M, G (powers of 1024). Times: a number with
// ms, s, m, h, d; without a unit, milliseconds (Millis) or seconds (Seconds).
#pragma once
#include <cstdint>

namespace tidemark::format {

// X(type, name, default, help)     types: Bool, Count, Size (bytes), Millis and Seconds (both in ms), Text
#define TIDEMARK_OPTION_TABLE(X)                                                                                                  \
  X(Bool, enable, "1", "0: track nothing, make no region, start no thread")                                                       \
  X(Text, dir, "", "folder for regions, created 0700 when missing; default: current folder under `tidemark run`, else /var/tmp")  \
  X(Size, region_size, "64M", "size of the launched program's region, 1M to 1G")                                                 \
  X(Size, child_region_size, "16M", "size of the region of a followed or forked child, 1M to 1G")                                \
  X(Size, regions_max, "2G", "all regions of one run together, without `tidemark run` all in dir; beyond it a process runs unrecorded")                              \
  X(Millis, child_grace, "100", "milliseconds a child must live before it gets a region")                                         \
  X(Count, child_grace_allocations, "4096", "allocations after which a child gets a region at once")                              \
  X(Text, follow, "all", "which started programs are recorded: all, none, or NAME,NAME,… (base names, * and ? allowed)")          \
  X(Seconds, cleanup_interval, "300", "seconds between purges of the allocator's free pages; 0: never")                           \
  X(Seconds, sample_interval, "1", "seconds between samples of RSS, cgroup, faults, threads and the allocator's statistics")      \
  X(Seconds, baseline_after, "2", "seconds after the start at which RSS is taken as the baseline")                                \
  X(Size, warn_increase, "10M", "warn when RSS has grown by more than this since the baseline, and at each doubling; 0: never")   \
  X(Seconds, cache_duration, "3600", "seconds after which a live block counts as expired; 0: never")                                     \
  X(Text, rules, "", "file that names caches: lines `cache NAME match=GLOB ttl=SECONDS`; see README.md")                          \
  X(Size, warn_expired, "10M", "warn when expired blocks hold more than this, and at each doubling; 0: never")                    \
  X(Seconds, warn_eta, "600", "warn when the cgroup's memory limit will be reached within so many seconds; 0: never")             \
  X(Text, log, "", "file for warnings (rotated at log_size, 3 kept), or syslog; default: the region only")                        \
  X(Size, log_size, "1M", "size at which the log is rotated")                                                                     \
  X(Count, arenas, "0", "number of jemalloc arenas; 0: four for each processor")                                                  \
  X(Count, dirty_decay_ms, "10000", "milliseconds in which the allocator gives back free pages by itself")                        \
  X(Count, muzzy_decay_ms, "0", "the same for pages that the kernel may take when it needs them")                                 \
  X(Bool, background_thread, "0", "1: jemalloc threads of their own give back free pages")                                        \
  X(Count, check, "0", "walk one stack in N again with libunwind and count disagreements (slow; 0: never)")                       \
  X(Text, py_malloc, "malloc", "`tidemark run` sets PYTHONMALLOC to this for a CPython; keep: leave Python's own small-block allocator")

inline constexpr char kFolderWithoutDir[] = "/var/tmp";

}  // namespace tidemark::format
