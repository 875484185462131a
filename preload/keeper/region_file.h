// The file a region lies in: made whole before the first store, so that a full disk is an error here and never a SIGBUS later.
#pragma once
#include <cstdint>

#include "preload/format/ledger.h"

namespace tidemark::keeper {

struct RegionFile {
  char* memory;          // mapped MAP_SHARED, PROT_NONE; nullptr: refused
  uint64_t bytes;
  char path[1400];       // what was tried; the region's own one once published
  int fd;                // open until published; -1: it has its name already
  int32_t pid;
  bool in_memory;        // on tmpfs
  uint64_t inode;        // of the file behind fd: the program may close descriptors it does not know
  char dir[1201], name[64];
  format::Refusal reason;
  int error;             // errno of the refusal
};

// Creates a region file in DIR, mode 0600, `bytes` long, still without a name where the file system can do that (O_TMPFILE), so that
// a process killed meanwhile leaves no half-made region. Plain system calls: fit for the program's first call of malloc. Nothing is
// left behind on failure. Not thread-safe (the result is big and static).
RegionFile& create_region_file(const char* dir, const char* name, int32_t pid, uint64_t bytes);
// Its header is complete: gives it its name, DIR/NAME.PID.tide, or NAME.PID.2.tide, … when that is taken; never an existing one.
bool publish_region_file(RegionFile& file);
void discard_region_file(RegionFile& file);   // never used: unmaps and removes it

// Growing a file past RLIMIT_FSIZE raises SIGXFSZ, which kills: asked before any attempt.
bool file_may_have(uint64_t bytes);

// Base name of the path that was executed, fit for a file name; `out` has room for 64 bytes.
void region_name(char* out);

}  // namespace tidemark::keeper
