// Function symbols of one module, from .symtab, .dynsym and .gnu_debugdata alike.
#pragma once
#include <elfutils/libdwfl.h>

#include <cstdint>
#include <vector>

namespace tidemark::symbolize {

class SymbolTable {
 public:
  // Names stay owned by `module`. `bias`: of its main ELF file in the Dwfl's address space.
  SymbolTable(Dwfl_Module* module, uint64_t bias);

  bool empty() const { return symbols_.empty(); }

  // The mangled name of the function that covers a virtual address of the file; nullptr: none.
  const char* find(uint64_t address) const;

 private:
  struct Symbol {
    uint64_t start;
    uint64_t size;  // 0: hand-written assembly; reaches to the next symbol
    uint8_t rank;   // of several at one address, the lowest is shown
    const char* name;
  };
  static uint8_t rank_of(const GElf_Sym& symbol, const char* name);

  std::vector<Symbol> symbols_;
};

}  // namespace tidemark::symbolize
