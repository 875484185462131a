// One region file, as far as the launcher touches it: the header's identity and ending, and the unused tail. Everything is
// done by pread and pwrite: a file that somebody cuts under us is an error, not a SIGBUS.
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

#include "analyzer/launch/descriptor.h"
#include "preload/format/region.h"

namespace tidemark::launch {

class RegionFile {
 public:
  enum class Verdict {
    kOurs,
    kForeign,     // no region of this version, or of another run: for good
    kUnfinished,  // no header yet: its writer may be at it
  };

  // Opens `name` in the folder. The result says kOurs only when a complete, plausible header bears `run_id`.
  static Verdict open(int folder, const std::string& name, uint64_t run_id, std::optional<RegionFile>& result);

  const std::string& name() const { return name_; }
  const format::Header& header() const { return header_; }  // as of the last open or reload
  bool reload();                                            // false: it is no valid region of the run any more
  uint64_t file_bytes() const;

  // Notes how the process ended: `wait_status` as waitpid gave it. A word of the process itself stays, except that a signal
  // overrules a noted exit: it came later. Only for a process that is gone. False when nothing could be written.
  bool note_ending(int wait_status, int64_t realtime_ns);

  // Cuts the file behind its used pages and returns what the ledger has of the bytes behind, 0 when there are none or it can't be.
  // Only for a process that is gone: a live one would be killed by its next store there.
  uint64_t give_back_tail();

 private:
  RegionFile(Descriptor file, std::string name, uint64_t run_id)
      : file_(std::move(file)), name_(std::move(name)), run_id_(run_id) {}
  Verdict read_header();

  Descriptor file_;
  std::string name_;
  uint64_t run_id_;
  format::Header header_{};
};

}  // namespace tidemark::launch
