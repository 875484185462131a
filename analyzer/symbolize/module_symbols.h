// All that can be found out about the addresses of one module.
#pragma once
#include <elfutils/libdwfl.h>

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "analyzer/symbolize/debug_file.h"
#include "analyzer/symbolize/dwarf_index.h"
#include "analyzer/symbolize/source_frame.h"
#include "analyzer/symbolize/symbol_table.h"

namespace tidemark::symbolize {

enum class SymbolState {
  kLines,       // debug information: functions, lines, inlined calls
  kNames,       // names of functions only
  kNone,        // the file has neither
  kChanged,     // the file is not the one that was loaded
  kMissing,     // the file is gone
  kUnreadable,  // the file cannot be opened or is no ELF file
  kKernel,      // the vdso: there is no file
};
const char* state_name(SymbolState state);  // as in the JSON report

struct Answer {
  std::vector<SourceFrame> frames;  // innermost first; empty when nothing is known
  bool by_lines = false;            // debug information covers the address
};

class ModuleSymbols {
 public:
  ModuleSymbols(const model::ModuleFile& module, const SearchPlaces& places);

  // What the file offers; for the addresses asked for it may be less.
  SymbolState state() const { return state_; }
  bool has_names() const { return names_ && !names_->empty(); }

  // `address`: virtual address in the file, of the instruction itself. Every answer is kept, and stays where it is.
  const Answer& find(uint64_t address);

 private:
  void open(const std::string& name, const std::string& path);

  struct DwflEnd {
    void operator()(Dwfl* dwfl) const { dwfl_end(dwfl); }
  };
  std::unique_ptr<Dwfl, DwflEnd> dwfl_;
  std::unique_ptr<SymbolTable> names_;
  std::unique_ptr<DwarfIndex> lines_;
  uint64_t dwarf_shift_ = 0;  // address in the file + this = address in its DWARF
  SymbolState state_ = SymbolState::kNone;
  std::unordered_map<uint64_t, Answer> answers_;
};

}  // namespace tidemark::symbolize
