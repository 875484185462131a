#include "preload/hooks/elsewhere.h"

#include <link.h>

#include "preload/base/symbols.h"
#include "preload/hooks/cpp_runtime.h"

namespace tidemark::hooks {

constinit void* detail::other_functions[size_t(Scarce::kCount)] = {};

namespace {

using base::SymbolTable;
using detail::OperatorsOwner;

constexpr size_t kForms = static_cast<size_t>(Operator::kCount);
constexpr base::SymbolName kNames[kForms] = {
#define TIDEMARK_NAME(name, simpler) #name,
    TIDEMARK_OPERATORS(TIDEMARK_NAME)
#undef TIDEMARK_NAME
};
constexpr Operator kSimpler[kForms] = {
#define TIDEMARK_SIMPLER(name, simpler) Operator::simpler,
    TIDEMARK_OPERATORS(TIDEMARK_SIMPLER)
#undef TIDEMARK_SIMPLER
};

constexpr base::SymbolName kScarceNames[] = {
#define TIDEMARK_NAME(name) #name,
    TIDEMARK_SCARCE(TIDEMARK_NAME)
#undef TIDEMARK_NAME
};

constinit OtherDefinition others[kForms] = {};

// The linker's: our own dynamic section.
extern "C" const ElfW(Dyn) _DYNAMIC[] __attribute__((visibility("hidden")));

bool is_ours(const link_map& module) { return module.l_ld == _DYNAMIC; }

bool defines_an_operator(const SymbolTable& table) {
  for (const base::SymbolName& name : kNames)
    if (table.find_function(name) != nullptr) return true;
  return false;
}

// The first in the program's search order, which is the order of the loader's list for those it starts with, decides. A C++
// library's are the standard's own, by malloc. An allocator that comes behind us has them beside its malloc, and both are ours. Those
// of an executable may be a static C++ library's, which can't be told from its own; either way they are called as without us.
bool somebody_replaces_operators() {
  bool behind_us = false;
  for (const link_map* module = _r_debug.r_map; module != nullptr; module = module->l_next) {
    if (is_ours(*module)) {
      behind_us = true;
      continue;
    }
    const SymbolTable table(*module);
    if (defines_an_operator(table)) return !is_cpp_runtime(*module) && !(behind_us && table.find_function("malloc") != nullptr);
  }
  return false;
}

void* address_of(const link_map& module, const ElfW(Sym) & symbol) {
  const auto address = module.l_addr + symbol.st_value;
  if (ELF64_ST_TYPE(symbol.st_info) == STT_GNU_IFUNC) return reinterpret_cast<void* (*)()>(address)();
  return reinterpret_cast<void*>(address);
}

void* first_definition(const link_map* from, Operator form) {
  for (const link_map* module = from; module != nullptr; module = module->l_next) {
    if (is_ours(*module)) continue;
    if (auto* found = base::find_function(*module, kNames[static_cast<size_t>(form)])) return address_of(*module, *found);
  }
  return nullptr;
}

const link_map* own_module() {
  const link_map* module = _r_debug.r_map;
  while (module != nullptr && !is_ours(*module)) module = module->l_next;
  return module;
}

// Where nobody behind us has the form, the standard's own definition is meant, by which a C++ library that is loaded later would
// call a simpler one, of whoever comes first. (A nothrow form doesn't catch what that throws: we have no way of catching.)
OtherDefinition find_other(const link_map* own, Operator form) {
  OtherDefinition found = {first_definition(own, form), form};
  while (found.code == nullptr && kSimpler[static_cast<size_t>(found.form)] != found.form) {
    found.form = kSimpler[static_cast<size_t>(found.form)];
    found.code = first_definition(_r_debug.r_map, found.form);
  }
  return found;
}

// Null where it is part of an allocator: libc, or one that is ours as a whole.
void* find_other_function(const link_map* own, const base::SymbolName& name) {
  for (const link_map* module = own; module != nullptr; module = module->l_next) {
    if (is_ours(*module)) continue;
    const SymbolTable table(*module);
    if (const ElfW(Sym)* found = table.find_function(name)) return table.find_function("malloc") == nullptr ? address_of(*module, *found) : nullptr;
  }
  return nullptr;
}

}  // namespace

void learn_others() {
  if (detail::owners.operators != OperatorsOwner::kUnknown) return;
  const link_map* own = own_module();
  for (size_t name = 0; name < size_t(Scarce::kCount); name++) detail::other_functions[name] = find_other_function(own, kScarceNames[name]);

  OperatorsOwner owner = OperatorsOwner::kShim;
  // A foreign heap: a C++ library's operators call it, and what else the program replaced.
  if (foreign() || somebody_replaces_operators()) {
    for (size_t form = 0; form < kForms; form++) others[form] = find_other(own, static_cast<Operator>(form));
    owner = OperatorsOwner::kOthers;
  }
  __atomic_store_n(&detail::owners.operators, owner, __ATOMIC_RELEASE);
}

OtherDefinition other_definition(Operator form) {
  learn_others();
  return others[static_cast<size_t>(form)];
}

}  // namespace tidemark::hooks
