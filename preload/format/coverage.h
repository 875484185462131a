// Every kind of loss, and the counters that tell how far a report can be trusted. One table: the enum, the JSON key and the
// sentence in the text report come from it. "0 when none" holds for all rows of TIDEMARK_LOSSES. How low peaks may be, the reader works out (missed_peak).
#pragma once
#include <cstdint>

namespace tidemark::format {

// X(enumerator, json_key, text for a person; "%" stands for the number, "{a|b}" for what goes with one, and with several)
#define TIDEMARK_LOSSES(X)                                                                                                                  \
  X(kNestedAllocations, nested_allocations, "% {allocation|allocations} made inside the allocator (by a signal handler, or for a thread of the allocator's own) {has|have} no stack") \
  X(kNestedBytes, nested_bytes, "% {byte|bytes} in those")                                                                                  \
  X(kOverflowAllocations, overflow_allocations, "% {allocation|allocations} found the stack table full and {is|are} counted as one site")   \
  X(kOverflowBytes, overflow_bytes, "% {byte|bytes} in those")                                                                              \
  X(kUntrackedAllocations, untracked_allocations, "% {allocation|allocations} found no memory for metadata and {is|are} not counted")       \
  X(kUntrackedBytes, untracked_bytes, "% {byte|bytes} in those")                                                                            \
  X(kCutStacks, cut_stacks, "% {stack is|stacks are} cut, by depth or at a frame that could not be followed: the outermost frames are missing") \
  X(kHardFrames, hard_frames, "% {place|places} in the frame tree where unwind data could not be followed (or a frame has 512 KiB or more)") \
  X(kGuessedFrames, guessed_frames, "% {frame|frames} without unwind data {was|were} passed by following the frame pointer or code")        \
  X(kDetailsDenied, details_denied, "% {stack|stacks} found no room for lifetimes and ages")                                                \
  X(kDetailDeathsLost, detail_deaths_lost, "% {death of an old block is|deaths of old blocks are} missing from lifetimes")                  \
  X(kSharedDenied, shared_denied, "% {stack|stacks} found no room for counters shared by threads: counts may be a little low")              \
  X(kThreadsWithoutSlot, threads_without_slot, "% {thread|threads} found no slot")                                                          \
  X(kModulesDropped, modules_dropped, "% {module|modules} found no room: addresses in there stay numbers")                                  \
  X(kTextTruncated, text_truncated, "% {name was|names were} cut")                                                                          \
  X(kPeakErrorBytes, peak_error_bytes, "the peak of a single call stack may be low by up to % {byte|bytes}")                                                                \
  X(kChildrenUnrecorded, children_unrecorded, "% child {process|processes} ran unrecorded: no region could be made")                        \
  X(kChildrenOverLimit, children_over_limit, "% child {process|processes} ran unrecorded: regions_max was reached")                         \
  X(kChildrenOtherUser, children_other_user, "% {process|processes} changed user and could not write to the region folder")                 \
  X(kChildrenSecure, children_secure, "% {program was|programs were} executed with another effective than real user or group: the loader drops preloaded libraries there, so {it ran|they ran} unrecorded") \
  X(kChildrenWithoutPreload, children_without_preload, "% {program was|programs were} executed with an environment whose LD_PRELOAD does not name tidemark's library, so {it ran|they ran} unrecorded") \
  X(kChildrenNotEntered, children_not_entered, "% {program was|programs were} executed that no preloaded library gets into (static, setuid, another loader or architecture), so {it ran|they ran} unrecorded") \
  X(kChildrenElsewhere, children_elsewhere, "% {program was|programs were} executed where the region folder can't be written to, or tidemark's library not be found (in a sandbox, a container, behind chroot), so {it ran|they ran} unrecorded") \
  X(kChildrenNotFollowed, children_not_followed, "% started {program was|programs were} not followed (option follow)")                      \
  X(kInheritedUnknownBytes, inherited_unknown_bytes, "% inherited {byte|bytes} could not be put to a stack")                                \
  X(kKeeperMissing, keeper_missing, "% {time|times} no thread of tidemark's own could be made, or kept (a limit on processes, unshare, a child of _Fork or clone, or of a signal handler inside malloc, a change of user behind a filter): from then on there are no ages, samples, purges or warnings") \
  X(kSamplesLost, samples_lost, "% {sample|samples} of the process's memory found no room")                                                 \
  X(kSamplesConfined, samples_confined, "% {sample was|samples were} not taken, since the process put itself under a seccomp filter")         \
  X(kLedgersUnread, ledgers_unread, "% {time|times} it could not be told what RSS consists of: /proc/self/smaps or pagemap could not be read") \
  X(kAllocatorUnread, allocator_unread, "% {time|times} jemalloc's own figures were taken as they were before: a thread ended by a bare system call, or killed alone, and to read them might end the process") \
  X(kPurgesLost, purges_lost, "% {purge|purges} found no room")                                                                             \
  X(kPurgesConfined, purges_confined, "% {purge was|purges were} not made, since the process put itself under a seccomp filter")            \
  X(kEventsLost, events_lost, "% {warning|warnings} found no room")                                                                         \
  X(kRulesUnread, rules_unread, "% rules {file|files} could not be read, or only a part of it (option rules; 4000 bytes are kept)")          \
  X(kMarksLost, marks_lost, "% {mark|marks} of the program found no room")                                                                  \
  X(kRangesForgotten, ranges_forgotten, "% {mapping|mappings} of the allocator or of tidemark found no place in the ledger's table: what of {it|them} is resident is not explained") \
  X(kMappingsForgotten, mappings_forgotten, "% {mapping|mappings} of the program found no place in the table, or came inside the allocator: no call stack has {it|them}") \
  X(kUnmappingsMissed, unmappings_missed, "% {call|calls} of munmap or mremap came inside the allocator: what they unmapped, if any of it was known, still counts as mapped") \
  X(kLogFailures, log_failures, "% {line|lines} could not be written to the log (option log)")                                              \
  X(kSwitchTimeouts, switch_timeouts, "% {time|times} the move into the region waited in vain for a thread")                                \
  X(kChecksDisagreed, checks_disagreed, "% checked {stack differs|stacks differ} from libunwind's")

// Counters that are no loss. Same array.
#define TIDEMARK_FACTS(X)                                                                                                                   \
  X(kChecks, checks, "% {stack was|stacks were} walked again by libunwind")                                                                 \
  X(kDeepbindStripped, deepbind_stripped, "RTLD_DEEPBIND was taken off % dlopen {call|calls}")                                              \
  X(kLastWalkTick, last_walk_tick, "live blocks were last aged at tick %")                                                                  \
  X(kStacks, stacks, "% distinct call {stack|stacks}")                                                                                      \
  X(kNodes, nodes, "% {node|nodes} in the frame tree")                                                                                      \
  X(kDetails, details, "% {stack|stacks} with lifetimes and ages")                                                                          \
  X(kCacheMisses, cache_misses, "% {stack|stacks} had to be walked")

enum Coverage : uint32_t {
#define X(enumerator, key, text) enumerator,
  TIDEMARK_LOSSES(X) kLossCount,
  kLastLoss = kLossCount - 1,   // so that the facts follow at once
  TIDEMARK_FACTS(X)
#undef X
  kCoverageCount,
};
inline constexpr uint32_t kCoverageMax = 64;
static_assert(kCoverageCount <= kCoverageMax);

}  // namespace tidemark::format
