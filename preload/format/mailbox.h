// How a person's `tidemark stats|cleanup|snapshot|stop|set PID` reaches the keeper: a mailbox in the region's header, for one request at a time.
// Whoever may write to the region's file may use it: its owner, and root.
//
// A client takes the box (state: kFree -> kTaken with its pid, by compare and exchange), writes command and argument, sets kRequested, adds one
// to `doorbell` and wakes it. The keeper answers, sets kDone and wakes `state`; the client reads the answer and sets kFree. Both words are
// futexes shared between processes (futex(2) without FUTEX_PRIVATE_FLAG). A box whose client died is taken over by the next one; the pid is
// part of the word, so that of two who try only one gets it.
#pragma once
#include <cstdint>

#include "preload/format/timeline.h"

namespace tidemark::format {

enum class Mail : uint32_t { kFree = 0, kTaken = 1, kRequested = 2, kServed = 3, kDone = 4 };
enum class Command : uint32_t { kNone = 0, kStats = 1, kCleanup = 2, kSnapshot = 3, kStop = 4, kSet = 5 };

inline constexpr uint32_t kMailText = 256;
inline constexpr uint32_t mail_word(Mail state, uint32_t client) { return uint32_t(state) | client << 8; }   // a pid has 22 bits
inline constexpr Mail mail_state(uint32_t word) { return Mail(word & 255); }
inline constexpr uint32_t mail_client(uint32_t word) { return word >> 8; }
struct Mailbox {
  uint32_t doorbell;        // the keeper sleeps on it
  uint32_t state;           // Mail | the client's pid in its own namespace << 8
  uint32_t command;         // Command
  int32_t error;            // 0: done; else an errno, and `text` says what failed
  uint64_t reserved;
  char text[kMailText];     // argument (set: key=value), then the answer (snapshot: the new file's name), zero-ended
  Purge purge;              // answer to kCleanup
};

}  // namespace tidemark::format
