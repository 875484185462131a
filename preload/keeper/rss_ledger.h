// The RSS ledger: what the process's resident memory consists of. Into Header::rss_ledger.
#pragma once
#include <cstdint>

namespace tidemark::keeper {

// Measures at once. Takes time in proportion to the heap's pages and to the number of mappings. From an errand.
bool measure_ledger();   // false: it could not be
// The same, every ten seconds, or sooner where `rss` is far from the last one's; but not so often that it costs more than a quarter of a percent of a processor.
bool measure_ledger_now_and_then(int64_t now, uint64_t rss);   // false: not now
// Of the latest one, in bytes: each mapping's to the KiB below. And what it took, in ns of CPU.
uint64_t pss_of_ledger();
int64_t cost_of_ledger();
// The calling thread is one of ours: its stack counts as tidemark's. slot: 0 keeper, 1 errands.
void note_own_stack(uint32_t slot);
void forget_ledger();   // child of fork

}  // namespace tidemark::keeper
