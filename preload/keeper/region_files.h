// The regions' files of a folder, as a process finds them that has, or wants, one there: with plain system calls, fit for the program's first call of malloc.
#pragma once
#include <dirent.h>
#include <fcntl.h>
#include <sys/types.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>

#include "preload/format/region.h"

namespace tidemark::keeper {

// Opens a file to read and write; -1: not to be had, or its owner may be another user.
int open_trusted(const char* path);
// Maps page 0 of a file, shared; nullptr: not to be had, or its owner may be another user. The ledger of `tidemark run` is a memory file of the launcher's.
void* map_first_page(const char* path);
// The same, if it is the header of a region, and no snapshot.
format::Header* map_header(const char* path);
format::Header* map_header(int fd);
void unmap_page(void* page);

// NAME.PID.tide, or NAME.PID.K.tide: which of both, the name alone does not say.
struct Numbers {
  int32_t last, before;   // 0: none
  bool has(int32_t pid) const { return pid > 0 && (last == pid || before == pid); }
};
Numbers numbers_in(const char* name);

template <class Visit>
void visit_region_file(const char* dir, const char* name, Visit visit) {
  char path[1400];
  size_t n = strlen(dir), m = strlen(name);
  if (m < 6 || strcmp(name + m - 5, ".tide") != 0 || n + m + 2 > sizeof(path)) return;
  memcpy(path, dir, n);
  path[n] = '/';
  memcpy(path + n + 1, name, m + 1);
  visit(path, path + n + 1);
}

// Calls visit(path, name) for each region's file there. Not by opendir, which allocates.
template <class Visit>
void for_each_region_file(const char* dir, Visit visit) {
  int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  alignas(dirent64) char entries[2048];
  for (ssize_t got; (got = getdents64(fd, entries, sizeof(entries))) > 0;)
    for (ssize_t at = 0; at < got;) {
      auto* entry = reinterpret_cast<const dirent64*>(entries + at);
      visit_region_file(dir, entry->d_name, visit);
      at += entry->d_reclen;
    }
  close(fd);
}

}  // namespace tidemark::keeper
