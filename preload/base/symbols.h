// What a loaded module's own table of symbols defines. Asks neither the loader nor anybody else; for modules that stay.
#pragma once
#include <link.h>

#include <cstdint>

namespace tidemark::base {

// A name, and what DT_GNU_HASH finds it by: known when compiled, where many modules are asked for it.
struct SymbolName {
  constexpr SymbolName(const char* name) : text(name), gnu_hash(5381) {
    for (; *name != '\0'; ++name) gnu_hash = gnu_hash * 33 + static_cast<unsigned char>(*name);
  }
  const char* text;
  uint32_t gnu_hash;
};

class SymbolTable {
 public:
  explicit SymbolTable(const link_map& module);

  // nullptr: no function of that name, in any version. Its address is at module.l_addr + st_value, but of an STT_GNU_IFUNC.
  const ElfW(Sym) * find_function(const SymbolName& name) const;

 private:
  const ElfW(Sym) * function(uint32_t index, const SymbolName& name) const;
  const ElfW(Sym) * find_by_gnu_hash(const SymbolName& name) const;
  const ElfW(Sym) * find_by_sysv_hash(const SymbolName& name) const;

  const ElfW(Sym) * symbols_ = nullptr;
  const char* strings_ = nullptr;
  const uint32_t* gnu_hash_ = nullptr;
  const uint32_t* sysv_hash_ = nullptr;
};

inline const ElfW(Sym) * find_function(const link_map& module, const SymbolName& name) { return SymbolTable(module).find_function(name); }

}  // namespace tidemark::base
