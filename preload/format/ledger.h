// What all processes of one run share: the budget of their regions, and why some of them run unrecorded. `tidemark run` keeps
// one in a memfd that it hands down by path (/proc/PID/fd/N in TIDEMARK_RUN); without it, the first region of the run holds
// one in its header. All words are changed by atomic operations; readers need no lock.
#pragma once
#include <cstdint>

namespace tidemark::format {

inline constexpr char kLedgerMagic[8] = {'T', 'I', 'D', 'E', 'L', 'E', 'D', 'G'};

// Why a process has no region. X(enumerator, sentence). By number in regions: new ones come last.
#define TIDEMARK_REFUSALS(X)                                                                              \
  X(kNone, "recorded")                                                                                    \
  X(kOpenFolder, "the region folder could not be opened")                                                 \
  X(kCreateFile, "the region file could not be created")                                                  \
  X(kAllocateFile, "no room for the region file")                                                         \
  X(kMapFile, "the region could not be mapped into memory")                                               \
  X(kFileSizeLimit, "the file size limit (RLIMIT_FSIZE, ulimit -f) is below region_size")                 \
  X(kRegionsMax, "the regions of this run have reached regions_max")                                      \
  X(kBadOptions, "TIDEMARK_OPTIONS could not be understood")                                              \
  X(kNoMemory, "no memory for tidemark's own tables")                                                     \
  X(kOtherUser, "the process changed its user and cannot write to the region folder")                     \
  X(kUnsupported, "this C library or processor is not supported")                                         \
  X(kCopyOnWrite, "the region folder is on btrfs, where a full disk would end the program (before Linux 6.16)")                 \
  X(kNoProc, "/proc is not mounted, by which the region file gets its name")                              \
  X(kOverCgroupLimit, "the region folder is in memory (tmpfs), and the region would take most of what the cgroup's memory limit leaves") \
  X(kNeverIdle, "a thread never left the allocator, as where a signal handler jumped out of it: the region could not be put in place")

enum class Refusal : uint32_t {
#define X(enumerator, text) enumerator,
  TIDEMARK_REFUSALS(X)
#undef X
};

struct RefusalNote {   // commit word: reason
  int32_t pid;
  int32_t error;       // errno, or 0
  uint32_t reason;     // Refusal
  uint32_t reserved;
  char name[16];       // of the process
  char detail[96];     // path or option concerned, zero-ended
};
inline constexpr uint32_t kRefusalNotes = 8;

struct RunLedger {
  char magic[8];
  uint64_t run_id;
  uint64_t limit_bytes;       // regions_max
  uint64_t used_bytes;        // of all regions of the run, less what was given back of them; hosted by a region: of all in the folder, as of the last count
  uint32_t regions;           // made so far
  uint32_t refused;           // processes without a region
  RefusalNote notes[kRefusalNotes];   // the first ones
};
// The launcher's memory file. Each process that books there holds a shared lock on the file (F_OFD_SETLK) until its region has a name, or none: what is pending
// while nobody holds one was booked by processes that were killed meanwhile.
struct LauncherLedger {
  RunLedger run;
  uint64_t pending_bytes;   // of run.used_bytes: of no region yet. Added after, taken off before: who is killed in between leaves used_bytes too high
};
static_assert(sizeof(RefusalNote) == 128 && sizeof(RunLedger) == 40 + 128 * kRefusalNotes);

}  // namespace tidemark::format
