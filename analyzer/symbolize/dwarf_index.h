// Functions, lines and inlined calls of one module's DWARF, found by address. libdw's own look-ups walk a whole unit for each
// address; this reads a unit's functions once, when the first address in it is asked for.
#pragma once
#include <elfutils/libdw.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "analyzer/symbolize/source_frame.h"

namespace tidemark::symbolize {

class DwarfIndex {
 public:
  explicit DwarfIndex(Dwarf* dwarf);

  bool empty() const { return ranges_.empty(); }

  // Inlined functions first, the compiled one last. Its name is mangled_name demangled where DWARF has none that is complete.
  // Empty when no unit covers the address.
  std::vector<SourceFrame> find(Dwarf_Addr address, const char* mangled_name);

 private:
  struct Unit {
    Dwarf_Die die;        // has lines
    Dwarf_Die functions;  // of split DWARF: where they are described; else the same
  };
  struct UnitRange {
    Dwarf_Addr start, end;
    uint32_t unit;
  };
  struct Function {
    Dwarf_Addr start, end;
    Dwarf_Die die;
  };
  using Functions = std::vector<Function>;

  std::optional<uint32_t> unit_at(Dwarf_Addr address) const;
  const Functions& functions_of(uint32_t unit);

  Dwarf_Addr lowest_code_;
  std::vector<Unit> units_;
  std::vector<UnitRange> ranges_;
  std::unordered_map<uint32_t, Functions> functions_;
};

}  // namespace tidemark::symbolize
