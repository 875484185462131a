#include "preload/base/symbols.h"

#include <elf.h>

#include <cstdint>
#include <cstring>

namespace tidemark::base {
namespace {

struct SymbolTable {
  const ElfW(Sym) * symbols = nullptr;
  const char* strings = nullptr;
  const uint32_t* gnu_hash = nullptr;
  const uint32_t* sysv_hash = nullptr;

  const ElfW(Sym) * function(uint32_t index, const char* name) const {
    const ElfW(Sym)& symbol = symbols[index];
    const unsigned type = ELF64_ST_TYPE(symbol.st_info);
    const bool defined = symbol.st_shndx != SHN_UNDEF && (type == STT_FUNC || type == STT_GNU_IFUNC);
    return defined && strcmp(strings + symbol.st_name, name) == 0 ? &symbol : nullptr;
  }
};

SymbolTable read_dynamic_section(const link_map& module) {
  SymbolTable table;
  // The loader relocates these addresses in place, except where the section is read-only.
  const auto address = [&](const ElfW(Dyn) & entry) {
    return entry.d_un.d_ptr < module.l_addr ? entry.d_un.d_ptr + module.l_addr : entry.d_un.d_ptr;
  };
  for (const ElfW(Dyn)* entry = module.l_ld; entry != nullptr && entry->d_tag != DT_NULL; ++entry) {
    if (entry->d_tag == DT_SYMTAB) table.symbols = reinterpret_cast<const ElfW(Sym)*>(address(*entry));
    if (entry->d_tag == DT_STRTAB) table.strings = reinterpret_cast<const char*>(address(*entry));
    if (entry->d_tag == DT_GNU_HASH) table.gnu_hash = reinterpret_cast<const uint32_t*>(address(*entry));
    if (entry->d_tag == DT_HASH) table.sysv_hash = reinterpret_cast<const uint32_t*>(address(*entry));
  }
  return table;
}

uint32_t gnu_hash(const char* name) {
  uint32_t hash = 5381;
  for (; *name != '\0'; ++name) hash = hash * 33 + static_cast<unsigned char>(*name);
  return hash;
}

// DT_GNU_HASH: {buckets, first symbol, bloom words, bloom shift} bloom[] bucket[] chain[]; a chain ends at an odd hash.
const ElfW(Sym) * find_by_gnu_hash(const SymbolTable& table, const char* name) {
  const uint32_t buckets = table.gnu_hash[0], first = table.gnu_hash[1], bloom_words = table.gnu_hash[2];
  if (buckets == 0) return nullptr;
  const uint32_t* bucket = table.gnu_hash + 4 + bloom_words * (sizeof(ElfW(Addr)) / sizeof(uint32_t));
  const uint32_t* chain = bucket + buckets;
  const uint32_t hash = gnu_hash(name);
  uint32_t index = bucket[hash % buckets];
  if (index < first) return nullptr;
  for (;; ++index) {
    const uint32_t candidate = chain[index - first];
    if ((candidate | 1) == (hash | 1))
      if (auto* found = table.function(index, name)) return found;
    if (candidate & 1) return nullptr;
  }
}

// DT_HASH's symbol count is enough: this is asked once or twice, of executables older than DT_GNU_HASH.
const ElfW(Sym) * find_by_sysv_hash(const SymbolTable& table, const char* name) {
  for (uint32_t index = 1; index < table.sysv_hash[1]; ++index)
    if (auto* found = table.function(index, name)) return found;
  return nullptr;
}
}  // namespace

const ElfW(Sym) * find_function(const link_map& module, const char* name) {
  const SymbolTable table = read_dynamic_section(module);
  if (table.symbols == nullptr || table.strings == nullptr) return nullptr;
  if (table.gnu_hash != nullptr) return find_by_gnu_hash(table, name);
  return table.sysv_hash != nullptr ? find_by_sysv_hash(table, name) : nullptr;
}

}  // namespace tidemark::base
