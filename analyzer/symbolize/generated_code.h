// Names of code that a JIT compiler made, from the files it leaves for perf(1).
#pragma once
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "analyzer/model/process.h"
#include "analyzer/symbolize/source_frame.h"

namespace tidemark::symbolize {

// Functions by address. Addresses are used again as code is thrown away: the latest description of one is taken, as perf does.
class GeneratedCode {
 public:
  // Names for `process`: its perf map and jitdump, looked for in `folder` (the region's), in /tmp, in the folder where it was started and
  // where perf keeps them (~/.debug/jit); of a running process, in its own view of /tmp, too. A file counts only if it was written
  // after the process had started and, but for those in `folder`, before it ended, and belongs to the process's user, to root or to the reader.
  static GeneratedCode of(const model::Process& process, const std::string& folder);

  // Linux tools/perf/Documentation/jit-interface.txt: lines of START SIZE name, hexadecimal. Lines that are not are left out.
  void add_perf_map(const std::string& text);
  // Linux tools/perf/Documentation/jitdump-specification.txt. Up to the first byte that makes no sense: the process may have died at it.
  void add_jitdump(const std::string& bytes);
  void finish();  // after the last addition, before find

  // Files that were written after the process had ended: perhaps by another one with its id.
  const std::vector<std::string>& too_new() const { return too_new_; }

  // nullptr: unknown. Valid as long as this is.
  const SourceFrame* find(uint64_t address) const;

 private:
  struct Function {
    uint64_t start, end;
    SourceFrame frame;
  };
  struct Piece {  // the part of a function that no later one covers
    uint64_t start, end;
    size_t function;
  };
  void add(uint64_t start, uint64_t end, SourceFrame frame);

  std::vector<Function> functions_;  // as they were described
  std::unordered_map<uint64_t, size_t> latest_at_;  // by start
  std::vector<Piece> pieces_;        // by start; after finish
  std::vector<std::string> too_new_;
};

}  // namespace tidemark::symbolize
