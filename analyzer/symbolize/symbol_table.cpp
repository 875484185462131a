#include "analyzer/symbolize/symbol_table.h"

#include <gelf.h>

#include <algorithm>
#include <cstring>

namespace tidemark::symbolize {

namespace {

// A symbol of size 0 may be the only name for an address far behind it that has none.
constexpr uint64_t kUnsizedReach = 4096;

}  // namespace

SymbolTable::SymbolTable(Dwfl_Module* module, uint64_t bias) {
  int count = dwfl_module_getsymtab(module);
  for (int i = 1; i < count; ++i) {
    GElf_Sym symbol;
    GElf_Addr address;
    GElf_Word section;
    const char* name = dwfl_module_getsym_info(module, i, &symbol, &address, &section, nullptr, nullptr);
    if (name == nullptr || *name == '\0' || section == SHN_UNDEF || section == SHN_ABS) continue;
    int type = GELF_ST_TYPE(symbol.st_info);
    bool code = type == STT_FUNC || type == STT_GNU_IFUNC || (type == STT_NOTYPE && GELF_ST_BIND(symbol.st_info) == STB_GLOBAL);
    if (code) symbols_.push_back({address - bias, symbol.st_size, rank_of(symbol, name), name});
  }
  std::sort(symbols_.begin(), symbols_.end(), [](const Symbol& a, const Symbol& b) {
    if (a.start != b.start) return a.start < b.start;
    if (a.rank != b.rank) return a.rank < b.rank;
    return std::strcmp(a.name, b.name) < 0;
  });
  auto same_start = [](const Symbol& a, const Symbol& b) { return a.start == b.start; };
  symbols_.erase(std::unique(symbols_.begin(), symbols_.end(), same_start), symbols_.end());
}

uint8_t SymbolTable::rank_of(const GElf_Sym& symbol, const char* name) {
  uint8_t rank = symbol.st_size == 0 ? 16 : 0;
  int binding = GELF_ST_BIND(symbol.st_info);
  rank += binding == STB_GLOBAL ? 0 : binding == STB_WEAK ? 4 : 8;
  bool internal = name[0] == '_' && name[1] == '_';  // libc's aliases: strdup rather than __strdup
  return rank + (internal ? 5 : 0);
}

const char* SymbolTable::find(uint64_t address) const {
  auto after = std::upper_bound(symbols_.begin(), symbols_.end(), address,
                                [](uint64_t value, const Symbol& symbol) { return value < symbol.start; });
  if (after == symbols_.begin()) return nullptr;
  const Symbol& symbol = *(after - 1);
  uint64_t reach = symbol.size != 0 ? symbol.size : kUnsizedReach;
  return address - symbol.start < reach ? symbol.name : nullptr;
}

}  // namespace tidemark::symbolize
