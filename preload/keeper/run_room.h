// Room in the ledger of `tidemark run`: what is booked there and has no file yet, and what processes that are gone have left. With plain system calls; not inside
// malloc, but for the program's first call.
#pragma once
#include <cstdint>

#include "preload/format/ledger.h"

namespace tidemark::keeper {

void take_off(uint64_t& word, uint64_t bytes);   // not below 0
bool book_in(format::RunLedger& ledger, uint64_t bytes);   // false: its limit would be passed

// One booking of this process is under way from begin_booking to end_booking. Meanwhile it holds a lock on the ledger's file, which goes with the process whatever
// ends it: so what is pending while nobody holds one was booked by the dead. false: the lock is not to be had; then nothing must be noted as pending.
bool begin_booking(const char* ledger_path);
void end_booking();

// Takes off what was pending when its process was killed; between begin_booking and end_booking, before anything is booked. Where others are booking, nothing.
void take_back_pending(format::LauncherLedger& ledger);

// Gives back the unused tails of regions of the run in `dir` whose processes are gone, until `bytes` find room. Not behind a seccomp filter, which may kill for that.
void give_back_tails_of_dead(format::RunLedger& ledger, uint64_t run_id, const char* dir, uint64_t bytes);

}  // namespace tidemark::keeper
