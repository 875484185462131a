// The file a region lies in: made whole before the first store, so that a full disk is an error here and never a SIGBUS later.
#pragma once
#include <cstdint>

#include "preload/format/ledger.h"

namespace tidemark::keeper {

struct RegionFile {
  char* memory;          // mapped MAP_SHARED, PROT_NONE; nullptr: refused
  uint64_t bytes;
  char path[1400];
  format::Refusal reason;
  int error;             // errno of the refusal
};

// Creates DIR/NAME.PID.tide (NAME.PID.2.tide, … when taken; never an existing file), mode 0600, `bytes` long. Plain system calls:
// fit for the program's first call of malloc. Nothing is left behind on failure. Not thread-safe (the result is big and static).
RegionFile& create_region_file(const char* dir, const char* name, int32_t pid, uint64_t bytes);
void discard_region_file(RegionFile& file);   // never used: unmaps and unlinks it

// Base name of the running executable, fit for a file name; `out` has room for 64 bytes.
void region_name(char* out);

}  // namespace tidemark::keeper
