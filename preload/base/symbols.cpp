#include "preload/base/symbols.h"

#include <elf.h>

#include <cstring>

namespace tidemark::base {

SymbolTable::SymbolTable(const link_map& module) {
  // The loader relocates these addresses in place, except where the section is read-only.
  const auto address = [&](const ElfW(Dyn) & entry) {
    return entry.d_un.d_ptr < module.l_addr ? entry.d_un.d_ptr + module.l_addr : entry.d_un.d_ptr;
  };
  for (const ElfW(Dyn)* entry = module.l_ld; entry != nullptr && entry->d_tag != DT_NULL; ++entry) {
    if (entry->d_tag == DT_SYMTAB) symbols_ = reinterpret_cast<const ElfW(Sym)*>(address(*entry));
    if (entry->d_tag == DT_STRTAB) strings_ = reinterpret_cast<const char*>(address(*entry));
    if (entry->d_tag == DT_GNU_HASH) gnu_hash_ = reinterpret_cast<const uint32_t*>(address(*entry));
    if (entry->d_tag == DT_HASH) sysv_hash_ = reinterpret_cast<const uint32_t*>(address(*entry));
  }
}

const ElfW(Sym) * SymbolTable::function(uint32_t index, const SymbolName& name) const {
  const ElfW(Sym)& symbol = symbols_[index];
  const unsigned type = ELF64_ST_TYPE(symbol.st_info);
  const bool defined = symbol.st_shndx != SHN_UNDEF && (type == STT_FUNC || type == STT_GNU_IFUNC);
  return defined && strcmp(strings_ + symbol.st_name, name.text) == 0 ? &symbol : nullptr;
}

// DT_GNU_HASH: {buckets, first symbol, bloom words, bloom shift} bloom[] bucket[] chain[]; a chain ends at an odd hash. The bloom
// filter says no to most names that are not there by one word, which the loader has read as well.
const ElfW(Sym) * SymbolTable::find_by_gnu_hash(const SymbolName& name) const {
  const uint32_t buckets = gnu_hash_[0], first = gnu_hash_[1], bloom_words = gnu_hash_[2], shift = gnu_hash_[3];
  if (buckets == 0 || bloom_words == 0) return nullptr;
  const auto* bloom = reinterpret_cast<const uint64_t*>(gnu_hash_ + 4);
  const uint64_t word = bloom[name.gnu_hash / 64 & (bloom_words - 1)];
  if ((word >> name.gnu_hash % 64 & word >> (name.gnu_hash >> shift) % 64 & 1) == 0) return nullptr;

  const auto* bucket = reinterpret_cast<const uint32_t*>(bloom + bloom_words);
  const uint32_t* chain = bucket + buckets;
  uint32_t index = bucket[name.gnu_hash % buckets];
  if (index < first) return nullptr;
  for (;; ++index) {
    const uint32_t candidate = chain[index - first];
    if ((candidate | 1) == (name.gnu_hash | 1))
      if (auto* found = function(index, name)) return found;
    if (candidate & 1) return nullptr;
  }
}

// DT_HASH's symbol count is enough: this is asked of few modules, older than DT_GNU_HASH.
const ElfW(Sym) * SymbolTable::find_by_sysv_hash(const SymbolName& name) const {
  for (uint32_t index = 1; index < sysv_hash_[1]; ++index)
    if (auto* found = function(index, name)) return found;
  return nullptr;
}

const ElfW(Sym) * SymbolTable::find_function(const SymbolName& name) const {
  if (symbols_ == nullptr || strings_ == nullptr) return nullptr;
  if (gnu_hash_ != nullptr) return find_by_gnu_hash(name);
  return sysv_hash_ != nullptr ? find_by_sysv_hash(name) : nullptr;
}

}  // namespace tidemark::base
