// A child's records go from private memory into a region file, at the same addresses, while the program stands still. Under the session's move lock.
#pragma once
#include <cstdint>

namespace tidemark::keeper {

void set_word(uint32_t word);   // base::session_word
void wake_waiters();            // who waits for it to change
// No thread is inside malloc, and none goes in, until the word is another one and the threads are unlocked. False: given up, the word is kFrozen yet.
bool freeze();

bool make_region();        // false: try again later
int64_t next_move_ns();    // CLOCK_MONOTONIC: before that it is not tried again
void forget_moves();       // child of fork

}  // namespace tidemark::keeper
