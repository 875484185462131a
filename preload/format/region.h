// The region: one fixed-size file that holds all that tidemark knows of one process image.
//
// Writer: libtidemark.so, through a MAP_SHARED mapping, with plain and atomic stores. Reader: the analyzer, at any time: while
// the process runs, after it ended in whatever way, on another machine. So:
//   - integers and offsets only, never a pointer; little-endian; every record has a fixed size, a power of two of bytes or a
//     divisor of the page, and never moves;
//   - a record is committed by ONE store of its commit word (named in its comment), made after all its other words; a reader
//     skips a record whose commit word is zero;
//   - the file is a sequence of 4 KiB pages. `Header::used_pages` of them are in use, without holes; a file cut off behind
//     them reads the same. The directory gives the kind of each page: one byte a page, 0 = not in use.
//   - a LINE is 64 bytes. Stacks, nodes, shared counters, details and threads are named by line id:
//     file offset = (id - Header::first_line) * 64. Ids are 24 bits wide; 0 is never a record.
//
// Any change of layout raises kVersion: readers refuse other versions with a clear error.
#pragma once
#include <cstddef>
#include <cstdint>

#include "preload/format/coverage.h"
#include "preload/format/ledger.h"
#include "preload/format/mailbox.h"
#include "preload/format/mappings.h"
#include "preload/format/marks.h"
#include "preload/format/timeline.h"

namespace tidemark::format {

inline constexpr char kMagic[8] = {'T', 'I', 'D', 'E', 'M', 'A', 'R', 'K'};
inline constexpr uint32_t kVersion = 11;
inline constexpr uint32_t kEndianMark = 0x01020304;
inline constexpr uint32_t kPageBytes = 4096;
inline constexpr uint32_t kLineBytes = 64;
inline constexpr uint32_t kLinesPerPage = kPageBytes / kLineBytes;
inline constexpr uint32_t kMaxLineId = (1u << 24) - 1;
inline constexpr uint32_t kTicksPerSecond = 16;   // the unit of every *_tick: 1/16 s since Header::started_monotonic_ns
inline constexpr int64_t kTickNs = 1'000'000'000 / kTicksPerSecond;
inline constexpr uint64_t kMinRegionBytes = 1u << 20;
inline constexpr uint64_t kMaxRegionBytes = 1u << 30;

enum class PageKind : uint8_t {
  kFree = 0,
  kHeader = 1,      // page 0
  kDirectory = 2,   // one byte for each page of the region
  kText = 3,        // strings, named by TextRef
  kNodes = 4,       // Node[64]
  kStacks = 5,      // StackPage
  kShared = 6,      // SharedCounters[64], in groups of kStripes
  kDetails = 7,     // Detail[2]
  kModules = 8,     // Module[32]
  kThreads = 9,     // Thread[64]
  kPoints = 10,     // ProcessPoint[4]
  kPurges = 11,     // Purge[16]
  kEvents = 12,     // Event[64]
  kMarks = 13,      // MarkRecord[4]
  kMappingStacks = 14,   // MappingStack[64]
  // 15 and up: rooms for locks, pools. A reader skips kinds it does not know.
};

// A string in the region: bytes [offset, offset + length) from the start of the file, no terminating zero. {0, 0}: none.
struct TextRef {
  uint32_t offset;
  uint32_t length;
};

// ---------------------------------------------------------------------------------------------------- header
enum class Ending : uint32_t {   // written by the process itself, unless ending_by_launcher
  kNone = 0,                     // still running, or ended without a word (SIGKILL, OOM killer, power, raw exit_group)
  kExited = 1,
  kSignaled = 2,
  kReplaced = 3,                 // execve: another image goes on under this pid
};
enum class Origin : uint32_t {
  kLaunched = 1,   // the program of `tidemark run`, or the first one that LD_PRELOAD put us into
  kExeced = 2,     // a program that a recorded one started
  kForked = 3,     // a fork child that went on without exec
};
enum HeapFlags : uint32_t {
  kHeapForeign = 1,   // the executable brings its own malloc: its heap is not seen
  kHeapElsewhere = 2, // so does a library that comes before ours (LD_PRELOAD's order)
};

struct RecordInfo {
  uint16_t kind;       // PageKind
  uint16_t per_page;   // records on one page
  uint32_t bytes;      // size of one record
};

struct Header {
  char magic[8];   // commit word of the whole file: written last
  uint32_t version;
  uint32_t header_bytes;
  uint32_t endian;
  uint32_t page_bytes;
  uint32_t line_bytes;
  uint32_t ticks_per_second;
  uint64_t region_bytes;       // as created; the file may be cut behind used_pages later
  uint64_t used_pages;         // atomic
  uint64_t directory_offset;
  uint64_t directory_bytes;
  uint32_t first_line;         // id of the line at offset 0; above 0 in a fork child: lower ids were its parent's
  uint32_t overflow_stack;     // StackRecord that takes what found no room
  RecordInfo records[16];      // self-description: what the writer was built with; unused rows are zero

  // identity
  int32_t pid, ppid;           // as seen in the process's own pid namespace
  uint32_t uid, gid;           // effective, when the region was made
  uint64_t pid_start;          // /proc/PID/stat field 22 (clock ticks since boot): with pid and boot_id, unique
  uint64_t pid_namespace;      // inode of /proc/self/ns/pid
  uint8_t boot_id[16];
  int64_t started_realtime_ns; // when this image was started
  int64_t started_monotonic_ns;// CLOCK_MONOTONIC at tick 0; a fork child's is its parent's
  uint32_t origin;             // Origin
  uint32_t heap_flags;         // HeapFlags
  uint64_t run_id;             // common to all regions of one run
  TextRef name, exe, cmdline, cwd, options, ledger_path;   // cmdline: arguments, each ended by a zero byte
  uint32_t child_grace_ms;
  uint32_t region_in_memory;   // 1: the file lies on tmpfs, so all of it counts against the cgroup's limit

  // clocks, written by the keeper thread at every tick
  uint32_t tick;               // atomic
  uint32_t loader_generation;  // atomic; raised whenever a module has been unloaded, or loaded where other code lay before
  int64_t heartbeat_realtime_ns;
  int64_t heartbeat_monotonic_ns;

  // ending
  uint32_t ending;             // Ending; commit word of the group: written last
  int32_t exit_status;         // kExited: as waitpid gives it (0..255)
  int32_t signal;              // kSignaled
  uint32_t ending_by_launcher; // 1: `tidemark run` saw it by waitpid
  int64_t ended_realtime_ns;

  // totals that are not sums over stacks
  int64_t live_bytes;          // all threads' share so far (each may hold back up to live_slack_bytes): feeds the peak
  uint64_t peak_live_bytes;
  uint64_t live_slack_bytes;   // what the peak may miss: threads at peak × what each holds back; 0 with one thread
  uint32_t threads_now, threads_peak;

  // over time, written by the keeper
  TextRef rules;               // of caches: the file that the option `rules` names, as it was at the start
  uint64_t expiry_ms;          // option cache_duration, as of the last walk
  TextRef cgroup;              // folder of the memory controller's files, as the process sees it; none: no cgroup was found
  uint64_t cgroup_inode;       // of that folder: what it is, wherever it is seen
  uint64_t cgroup_limit;       // in bytes, when the keeper first looked; UINT64_MAX: none, or not known; 0: it has not looked
  uint64_t cgroup_oom_kills;   // as of then, where cgroup_limit is not 0
  uint32_t series_ticks;       // width of one ProcessPoint, a power of two; 0: no sample yet
  uint32_t series_first_tick;  // where point 0 begins
  uint32_t series_used;        // points
  uint32_t series_sequence;    // odd while points are being joined
  uint32_t baseline_tick;      // 0: not taken yet
  uint64_t baseline_rss, baseline_vms;
  uint32_t purges;             // made so far
  uint32_t warnings;           // given so far
  uint32_t first_tick;         // at which this process began: above 0 in a fork child, which goes on with its parent's tick 0
  uint64_t purged_bytes;       // sum of bytes_returned
  uint64_t longest_purge_ns;

  RssLedger rss_ledger;        // the latest one
  RssLedger baseline_ledger;   // the first one after the baseline
  int64_t stopped_realtime_ns;   // recording was ended by `tidemark stop`, the process went on; 0: it was not
  int64_t snapshot_realtime_ns;  // this file is a copy that `tidemark snapshot` asked for; 0: it is not
  Mailbox mailbox;

  uint64_t coverage[kCoverageMax];   // by Coverage; every kind of loss
  RunLedger ledger;                  // used where this is the first region of a run without `tidemark run`
  uint64_t booked_bytes;             // what of this region the launcher's ledger has, or less; 0: it has none of it
};

// ---------------------------------------------------------------------------------------------------- call stacks
// One cache line of the frame tree: up to six consecutive frames, innermost first, and the node of their caller. A stack is its
// leaf; outer frames are shared by all stacks. Frames are grouped from the outer end; a group of fewer than six is padded at
// its INNER end with copies of its first frame that have size 0.
// words[i] = pc (low 48 bits) | frame size in 8-byte words (high 16). A pc is a return address, except where the frame inside
// it is a signal trampoline (kind kSignalFrame): then it is the interrupted instruction itself.
// Readers: frames of a node are words[i] with i == 5 or size != 0; a node with a non-zero low byte in `rule` is a lone
// frame, words[0]. Walk `caller` until it is kRootNode or kCutNode.
inline constexpr uint32_t kFramesPerNode = 6;
inline constexpr uint64_t kPcMask = (uint64_t{1} << 48) - 1;
inline constexpr uint32_t kRootNode = 0;   // the stack really ends here
inline constexpr uint32_t kCutNode = 1;    // more frames, not kept

enum RuleKind : uint16_t {   // the low byte of Node::rule; 0: a group of frames
  kRuleRsp = 1,              // CFA = rsp + n
  kRuleRbp = 2,              // CFA = rbp + n
  kRuleDeref = 3,            // CFA = *(rbp + n): a realigned frame
  kRuleSignal = 4,           // signal trampoline
  kRuleGuess = 5,            // no unwind data here (JIT, hand-written assembly): the frame pointer was followed, or, where
                             // words[0] has a size, that was taken from the code itself
  kRuleEnd = 6,              // unwind data says: outermost frame
  kRuleHard = 7,             // unwind data says something we do not follow: the stack is cut here
};
inline constexpr uint16_t kRuleUncalled = 0x200;   // beside kRuleGuess, of a module: no call instruction ends there, as where a coroutine begins
inline constexpr uint16_t kRuleFramePointerGroup = 0x100;   // a group in which every CFA = rbp + 16

struct alignas(64) Node {
  uint64_t words[kFramesPerNode];
  uint32_t caller;       // Node, kRootNode or kCutNode
  uint32_t stack;        // atomic: StackRecord whose leaf this is, or 0
  int16_t rbp_save;      // private to the writer
  uint16_t rule;
  uint32_t generation;   // | kNodeCut. A pc is in the module that covers it and has this generation, or in none.
};
inline constexpr uint32_t kNodeCut = 1u << 31;   // the path of this node ends in kCutNode

// ---------------------------------------------------------------------------------------------------- counters per stack
enum class StackKind : uint8_t {
  kOwn = 1,
  kInherited = 2,   // blocks a fork child inherited: allocated_* = inherited, freed_* = of these, freed by the child
  kOverflow = 3,    // all allocations whose stack found no room
};

// Counters of one stack. The thread named by `owner` adds with plain stores; all others add to `shared`. Value = sum of all.
// A count and its bytes may differ by one block a thread at the moment of death. Commit word: leaf_and_kind.
struct alignas(64) StackRecord {
  uint64_t allocated_count, allocated_bytes;   // bytes as requested
  uint64_t freed_count, freed_bytes;
  uint64_t peak_live_bytes;
  uint32_t leaf_and_kind;   // Node id | StackKind << 24
  uint32_t owner;           // private to the writer
  uint32_t shared;          // first of kStripes SharedCounters, or 0
  uint32_t detail;          // Detail, or 0
  uint32_t first_tick, last_tick;   // of an allocation
};
// A stripe. The first is everybody's, who add with atomic operations; each of the others is one thread's, as the StackRecord is.
struct alignas(64) SharedCounters {
  uint64_t allocated_count, allocated_bytes;
  uint64_t freed_count, freed_bytes;
  uint64_t max_request;     // largest block while shared: see missed_peak. The first stripe's: of the StackRecord's owner, too
  int64_t low_live_bytes;   // private to the writer. The first stripe's: of the StackRecord's owner
  uint32_t owner;           // private to the writer
  uint32_t stack;           // private to the writer. The first stripe's: StackRecord whose counters these are
  uint32_t reserved[2];
};
inline constexpr uint32_t kStripes = 4;

// A shared stack's peak is looked at by a large request at once; by the others when what is live by their thread's own counters has risen as much
// since it looked last as kPeakEvery of the largest would make it; in the first stripe at every kPeakEvery-th allocation: to add up the stripes each
// time would take their lines from the threads that write them. So this is the most it can miss: the smaller blocks that came since; as many again
// for each other thread that was to look and is held up before it did; and one block in flight in each of them. Where nobody had to use the first
// stripe, there are never more than kStripes threads that count at once.
inline constexpr uint32_t kPeakEvery = 16;
inline constexpr uint64_t kPeakAtOnce = 4096;
inline constexpr uint64_t missed_peak(uint64_t max_request, uint64_t other_threads) {
  if (!other_threads || !max_request) return 0;
  uint64_t unseen = (kStripes + 1 + other_threads) * kPeakEvery * (max_request < kPeakAtOnce ? max_request : kPeakAtOnce);
  return max_request > (UINT64_MAX - unseen) / other_threads ? UINT64_MAX : unseen + max_request * other_threads;
}

inline constexpr uint32_t kStacksPerPage = 60;
// oldest[i]: 1 + birth tick of the oldest live block of stacks[i], as of the keeper's last walk (Header coverage tells its
// age: kLastWalkTick); 0: no live block seen by a walk yet.
struct StackPage {
  StackRecord stacks[kStacksPerPage];
  uint32_t oldest[kStacksPerPage];
  uint32_t deaths_lost[2];   // a bit for each stack: old blocks were freed while it had no Detail, so how long those lived is not known
  uint32_t denied[2];        // private to the writer: those that are counted as such (kDetailsDenied)
};

// What is kept beyond counters for a stack whose blocks grow old: given at the first death at kDetailAgeTicks or later, or by
// the keeper when live blocks have grown old, if they are worth it (heap/counters.h). Commit word: stack.
inline constexpr uint32_t kDetailAgeTicks = 1 * kTicksPerSecond;
inline constexpr uint32_t kLifetimeBuckets = 78;
inline constexpr uint32_t kCohorts = 128;
inline constexpr uint32_t kSeriesPoints = 64;
struct SeriesPoint {
  uint64_t min_live, last_live;   // bytes
};
struct alignas(64) Detail {
  uint32_t stack;             // StackRecord
  uint32_t granted_tick;
  uint64_t deaths_before;     // frees before the record was given, all younger than kDetailAgeTicks but where StackPage::deaths_lost
  uint32_t max_age_ticks;     // oldest age at a free
  uint32_t cohort_sequence;   // odd while the keeper writes cohorts: then they may be torn
  uint32_t cohort_ticks;      // width of one cohort, a power of two; cohort[i]: live blocks born in ticks [i, i + 1) × width
                              // as of the last walk (kLastWalkTick); 0: never counted
  uint32_t reserved0;
  uint32_t series_ticks;      // width of one point, a power of two × 16; doubles when the points run out. The last point holds until
                              // the end: nothing is written for a stack whose live bytes do not change
  uint32_t series_used;
  uint64_t expired_bytes;     // of live blocks that were older than Header::expiry_ms at the last walk
  uint32_t expired_count;
  uint32_t reserved[3];
  uint32_t lifetime[kLifetimeBuckets];   // frees by age; [0] is not counted: it is freed_count - sum of the others
  uint32_t reserved2[2];
  uint32_t cohort[kCohorts];
  SeriesPoint series[kSeriesPoints];
  uint8_t reserved3[128];
};

// ---------------------------------------------------------------------------------------------------- modules, threads
// One mapping of one file, as long as it stayed loaded. Commit word: state.
struct Module {
  uint64_t start, end;        // addresses covered
  uint64_t bias;              // address = bias + virtual address in the file
  uint32_t generation;        // 0 where no other code ever lay; else no other module's
  uint32_t unloaded;          // loader generation in which it was, the last time; 0: it is loaded
  uint32_t born_tick, dead_tick;
  TextRef path;
  uint64_t file_bytes;        // identity where there is no build-id; 0 until the keeper looked
  int64_t mtime_ns;
  uint32_t build_id_bytes;
  uint32_t state;             // 1
  uint8_t build_id[32];
  uint64_t reserved[3];
};

struct alignas(64) Thread {
  uint32_t tid;               // commit word; 0: slot free
  uint32_t generation;        // raised whenever the slot is taken
  uint32_t first_tick, last_tick;
  int64_t live_bytes;         // this thread's allocations - frees not yet added to Header::live_bytes
  uint64_t reserved[5];
};

static_assert(sizeof(Header) <= kPageBytes && alignof(Header) == 8);
static_assert(sizeof(Node) == 64 && offsetof(Node, caller) == 48 && offsetof(Node, generation) == 60);
static_assert(sizeof(StackRecord) == 64 && offsetof(StackRecord, leaf_and_kind) == 40);
static_assert(sizeof(SharedCounters) == 64);
static_assert(sizeof(StackPage) == kPageBytes && offsetof(StackPage, oldest) == 3840);
static_assert(sizeof(Detail) == 2048 && offsetof(Detail, cohort) == 384 && offsetof(Detail, series) == 896);
static_assert(sizeof(Module) == 128);
static_assert(sizeof(Thread) == 64);

// The self-description every writer of this version puts into Header::records.
inline constexpr RecordInfo kRecords[] = {
    {uint16_t(PageKind::kNodes), kLinesPerPage, sizeof(Node)},
    {uint16_t(PageKind::kStacks), kStacksPerPage, sizeof(StackRecord)},
    {uint16_t(PageKind::kShared), kLinesPerPage, sizeof(SharedCounters)},
    {uint16_t(PageKind::kDetails), kPageBytes / sizeof(Detail), sizeof(Detail)},
    {uint16_t(PageKind::kModules), kPageBytes / sizeof(Module), sizeof(Module)},
    {uint16_t(PageKind::kThreads), kLinesPerPage, sizeof(Thread)},
    {uint16_t(PageKind::kPoints), kPageBytes / sizeof(ProcessPoint), sizeof(ProcessPoint)},
    {uint16_t(PageKind::kPurges), kPageBytes / sizeof(Purge), sizeof(Purge)},
    {uint16_t(PageKind::kEvents), kLinesPerPage, sizeof(Event)},
    {uint16_t(PageKind::kMarks), kPageBytes / sizeof(MarkRecord), sizeof(MarkRecord)},
    {uint16_t(PageKind::kMappingStacks), kLinesPerPage, sizeof(MappingStack)},
};

// ---------------------------------------------------------------------------------------------------- lifetimes
// Bucket of an age in ticks: 0: < 1/16 s, 1..4: coarse up to 1 s, then 4 an octave from 1 s to 2^18 s (3 days), 77: longer.
inline constexpr uint32_t lifetime_bucket(uint32_t age_ticks) {
  if (age_ticks == 0) return 0;
  uint32_t log2 = 31 - uint32_t(__builtin_clz(age_ticks));
  if (log2 < 4) return 1 + log2;
  uint32_t octave = log2 - 4;
  return octave >= 18 ? kLifetimeBuckets - 1 : 5 + 4 * octave + (age_ticks >> (log2 - 2) & 3);
}
// Smallest age in ticks that falls into a bucket; for the upper edge ask for the next one.
inline constexpr uint32_t lifetime_bucket_floor(uint32_t bucket) {
  if (bucket == 0) return 0;
  if (bucket <= 4) return 1u << (bucket - 1);
  uint32_t octave = (bucket - 5) / 4, quarter = (bucket - 5) % 4;
  return (4 + quarter) << (octave + 2);
}
static_assert(lifetime_bucket(15) == 4 && lifetime_bucket(16) == 5 && lifetime_bucket(20) == 6 && lifetime_bucket(32) == 9);
static_assert(lifetime_bucket((1u << 22) - 1) == 76 && lifetime_bucket(1u << 22) == 77);
static_assert(lifetime_bucket_floor(5) == 16 && lifetime_bucket_floor(6) == 20 && lifetime_bucket_floor(77) == 1u << 22);

}  // namespace tidemark::format
