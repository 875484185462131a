#include "preload/platform/main_executable.h"

#include <elf.h>
#include <link.h>

#include <cstdint>
#include <cstring>

namespace tidemark::platform {
namespace {

struct SymbolTable {
  const ElfW(Sym) * symbols = nullptr;
  const char* strings = nullptr;
  const uint32_t* gnu_hash = nullptr;
  const uint32_t* sysv_hash = nullptr;

  bool defines_function(uint32_t index, const char* name) const {
    const ElfW(Sym)& symbol = symbols[index];
    const unsigned type = ELF64_ST_TYPE(symbol.st_info);
    return symbol.st_shndx != SHN_UNDEF && (type == STT_FUNC || type == STT_GNU_IFUNC) &&
           strcmp(strings + symbol.st_name, name) == 0;
  }
};

SymbolTable read_dynamic_section(const link_map& executable) {
  SymbolTable table;
  // The loader relocates these addresses in place, except where the section is read-only.
  const auto address = [&](const ElfW(Dyn) & entry) {
    return entry.d_un.d_ptr < executable.l_addr ? entry.d_un.d_ptr + executable.l_addr : entry.d_un.d_ptr;
  };
  for (const ElfW(Dyn)* entry = executable.l_ld; entry != nullptr && entry->d_tag != DT_NULL; ++entry) {
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
bool defined_by_gnu_hash(const SymbolTable& table, const char* name) {
  const uint32_t buckets = table.gnu_hash[0], first = table.gnu_hash[1], bloom_words = table.gnu_hash[2];
  if (buckets == 0) return false;
  const uint32_t* bucket = table.gnu_hash + 4 + bloom_words * (sizeof(ElfW(Addr)) / sizeof(uint32_t));
  const uint32_t* chain = bucket + buckets;
  const uint32_t hash = gnu_hash(name);
  uint32_t index = bucket[hash % buckets];
  if (index < first) return false;
  for (;; ++index) {
    const uint32_t candidate = chain[index - first];
    if ((candidate | 1) == (hash | 1) && table.defines_function(index, name)) return true;
    if (candidate & 1) return false;
  }
}

// DT_HASH's symbol count is enough: this is asked once or twice, of executables older than DT_GNU_HASH.
bool defined_by_sysv_hash(const SymbolTable& table, const char* name) {
  for (uint32_t index = 1; index < table.sysv_hash[1]; ++index)
    if (table.defines_function(index, name)) return true;
  return false;
}

// The linker's: where this library is mapped, and its dynamic section.
extern "C" const ElfW(Dyn) _DYNAMIC[] __attribute__((visibility("hidden")));

bool defines(const link_map& module, const char* function) {
  const SymbolTable table = read_dynamic_section(module);
  if (table.symbols == nullptr || table.strings == nullptr) return false;
  if (table.gnu_hash != nullptr) return defined_by_gnu_hash(table, function);
  return table.sysv_hash != nullptr && defined_by_sysv_hash(table, function);
}

}  // namespace

bool main_executable_defines(const char* function) {
  // The loader's list begins with the executable, also when the loader itself was the command (where AT_PHDR is the loader's).
  const link_map* executable = _r_debug.r_map;
  return executable != nullptr && defines(*executable, function);
}

bool malloc_is_elsewhere() {
  for (const link_map* module = _r_debug.r_map; module != nullptr && module->l_ld != _DYNAMIC; module = module->l_next)
    if (module != _r_debug.r_map && defines(*module, "malloc")) return true;
  return false;
}

}  // namespace tidemark::platform
