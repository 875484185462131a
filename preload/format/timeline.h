// What the keeper notes of the process as a whole: points of a series, purges, warnings. Part of the region (region.h).
#pragma once
#include <cstdint>

namespace tidemark::format {

// X(enumerator, json_key). Bytes, unless said otherwise. From /proc and the cgroup's files as of one sample; from jemalloc's
// statistics (its manual, "stats.*"); live: requested bytes of tracked blocks.
#define TIDEMARK_GAUGES(X)                                                                                   \
  X(kRss, rss) X(kPss, pss) X(kSwap, swap) X(kVms, vms) X(kLive, live)                                        \
  X(kAllocated, allocated) X(kActive, active) X(kDirty, dirty) X(kMuzzy, muzzy) X(kRetained, retained)       \
  X(kMetadata, metadata) X(kResident, resident)                                                              \
  X(kCgroupCurrent, cgroup_current) X(kCgroupWorkingSet, cgroup_working_set) X(kCgroupLimit, cgroup_limit)   \
  X(kMemoryPressure, memory_pressure) /* some, avg10: hundredths of a percent of time */                     \
  X(kThreads, threads) X(kDescriptors, fds) /* how many; the program's own */                                \
  X(kLedgerLive, ledger_live) X(kLedgerUntouched, ledger_live_untouched) X(kLedgerRounding, ledger_rounding) /* as in RssLedger */ \
  X(kLedgerAllocator, ledger_allocator) X(kLedgerMappings, ledger_mappings) X(kLedgerStacks, ledger_thread_stacks)                  \
  X(kLedgerTidemark, ledger_tidemark)

// Only grow: the latest value is kept. Times in milliseconds.
#define TIDEMARK_COUNTERS(X)                                                                    \
  X(kMinorFaults, minor_faults) X(kMajorFaults, major_faults) X(kUserMs, user_ms)               \
  X(kSystemMs, system_ms) X(kCgroupMaxEvents, cgroup_max_events) X(kCgroupOomKills, cgroup_oom_kills)

enum Gauge : uint32_t {
#define X(enumerator, key) enumerator,
  TIDEMARK_GAUGES(X)
#undef X
      kGauges
};
enum Counter : uint32_t {
#define X(enumerator, key) enumerator,
  TIDEMARK_COUNTERS(X)
#undef X
      kCounters
};
inline constexpr uint64_t kUnknown = UINT64_MAX;   // could not be read, or was too dear to ask for

struct GaugeRange {
  uint64_t min, max, last;   // of those samples that know it; kUnknown: none does
};

// All samples of one stretch of time. Points follow each other in the order of their pages; the width doubles, and pairs of points become
// one, when kProcessPoints are full. Header::series_sequence is odd meanwhile. Commit word: samples.
inline constexpr uint32_t kProcessPoints = 256;
struct ProcessPoint {
  uint32_t samples;
  uint32_t first_tick, last_tick;   // of the samples
  uint32_t reserved;
  GaugeRange gauges[kGauges];
  uint64_t counters[kCounters];
  uint64_t reserved2[45];
};

// The heap as jemalloc sees it, and RSS; bytes. rss: kUnknown where it could not be read.
struct HeapFigures {
  uint64_t allocated, active, dirty, muzzy, retained, metadata, resident, rss;
};
enum class PurgeReason : uint32_t { kInterval = 1, kControl = 2, kInside = 3 };

// One purge. A ring: purge n (from 1) lies in slot (n - 1) % kPurges; Header::purges counts them all. Commit word: number.
inline constexpr uint32_t kPurges = 512;
struct Purge {
  uint32_t number;
  uint32_t tick;             // when it began
  uint32_t reason;           // PurgeReason
  uint32_t reserved;
  uint64_t ns;               // it took
  uint64_t bytes_returned;   // by which RSS fell; where that is not known, jemalloc's own figure
  HeapFigures before, after;
  uint64_t reserved2[12];
};

// RSS = live + rounding + allocator + mappings + thread_stacks + tidemark + residual; bytes, as of tick. Resident parts: of live blocks as
// requested; of what size classes add to them; of jemalloc's other pages (free, partly used, metadata); of files, and what the program
// mapped by calls that were seen; of its threads' stacks; of tidemark's own. What is left: stacks of threads that never called malloc, mappings by raw
// system calls. live_untouched: of live blocks on pages that were never touched, not in the sum.
// Of `allocator`, as jemalloc counts them: allocator_free on pages without a block (dirty and muzzy), which a purge gives back; allocator_fragmentation
// between blocks on partly used pages.
#define TIDEMARK_LEDGER(X) \
  X(rss) X(live) X(live_untouched) X(rounding) X(allocator) X(mappings) X(thread_stacks) X(tidemark) X(allocator_free) X(allocator_fragmentation)
struct RssLedger {
  uint32_t sequence;   // odd while it is being written; 0: never
  uint32_t tick;
#define X(name) uint64_t name;
  TIDEMARK_LEDGER(X)
#undef X
  int64_t residual;
};

// X(enumerator, json_key)
#define TIDEMARK_WARNINGS(X)                                                                                       \
  X(kRssIncrease, rss_increase)     /* a: RSS, b: RSS at the baseline */                                           \
  X(kExpiredBlocks, expired_blocks) /* a: bytes live for longer than cache_duration, b: that, in milliseconds */   \
  X(kCgroupLimit, cgroup_limit)     /* a: the limit, b: milliseconds until it will be reached */

enum class EventKind : uint32_t {
  kNone = 0,
#define X(enumerator, key) enumerator,
  TIDEMARK_WARNINGS(X)
#undef X
};
// Commit word: kind.
inline constexpr uint32_t kEvents = 1024;   // the first ones; Header::warnings counts them all
struct Event {
  uint32_t kind;   // EventKind
  uint32_t tick;
  uint64_t a, b;
  uint64_t reserved[5];
};

static_assert(sizeof(ProcessPoint) == 1024 && sizeof(Purge) == 256 && sizeof(Event) == 64);

}  // namespace tidemark::format
