// All that can be found out about the addresses of one module.
#pragma once
#include <elfutils/libdwfl.h>

#include <memory>
#include <string>
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

class ModuleSymbols {
 public:
  ModuleSymbols(const model::ModuleFile& module, const SearchPlaces& places);

  // Of the addresses asked for so far: a file may have lines for a few hand-written functions only.
  SymbolState state() const;

  // Innermost first; empty when nothing is known. `address`: virtual address in the file, of the instruction itself.
  std::vector<SourceFrame> find(uint64_t address);

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
  bool found_lines_ = false, found_none_ = false;
};

}  // namespace tidemark::symbolize
