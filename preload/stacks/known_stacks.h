// Fingerprint -> StackRecord, for all stacks that were looked up of late. Shared by all threads, without locks; an entry may be lost, then its stack
// is looked up by other means and comes back. An outgrown table is left to readers that linger in it.
#pragma once
#include <cstdint>

namespace tidemark::stacks {

uint32_t known_stack(uint64_t fingerprint);   // 0: not known
void prefetch_known_stack(uint64_t fingerprint);
// all: how many stacks there are by now; a few fingerprints each must do, for those of a layout that is gone stay until others need the room.
void know_stack(uint64_t fingerprint, uint32_t stack, uint64_t all);

bool start_known_stacks();    // fresh, empty (also in a child of fork); false: no memory
void forget_known_stacks();   // see empty_caches

}  // namespace tidemark::stacks
