// What `tidemark run` says after the end.
#pragma once
#include <sys/types.h>

#include <string>
#include <vector>

#include "analyzer/launch/ledger_file.h"
#include "analyzer/launch/region_file.h"

namespace tidemark::launch {

struct Run {
  std::string command;  // as given
  std::string folder;   // of the regions, as a person would type it
  pid_t pid = 0;
  int wait_status = 0;
  size_t regions = 0;  // of the whole run
};

struct Note {
  std::string text;      // one line without its end
  bool trouble = false;  // to be said even where nobody sits at a terminal
};

// `region` is the launched program's last one, or nullptr.
std::vector<Note> closing_notes(const Run& run, const RegionFile* region, const LedgerFile& ledger);

// "512 KiB", "12 MiB", "1.5 GiB"
std::string readable_size(uint64_t bytes);
// `text` as one word of a shell command.
std::string shell_word(const std::string& text);

}  // namespace tidemark::launch
