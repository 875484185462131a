#include "analyzer/symbolize/module_symbols.h"

#include "analyzer/symbolize/demangle.h"

namespace tidemark::symbolize {

namespace {

int no_elf_search(Dwfl_Module*, void**, const char*, Dwarf_Addr, char**, Elf**) { return -1; }

// libdwfl takes debug files by build-id or .gnu_debuglink (CRC checked) from .debug/ and /usr/lib/debug, and asks debuginfod
// when DEBUGINFOD_URLS is set.
const Dwfl_Callbacks kCallbacks = {no_elf_search, dwfl_standard_find_debuginfo, dwfl_offline_section_address, nullptr};

SymbolState state_without_file(FileMatch match) {
  switch (match) {
    case FileMatch::kChanged:
      return SymbolState::kChanged;
    case FileMatch::kUnreadable:
      return SymbolState::kUnreadable;
    default:
      return SymbolState::kMissing;
  }
}

}  // namespace

const char* state_name(SymbolState state) {
  switch (state) {
    case SymbolState::kLines:
      return "lines";
    case SymbolState::kNames:
      return "names";
    case SymbolState::kNone:
      return "none";
    case SymbolState::kChanged:
      return "changed";
    case SymbolState::kMissing:
      return "missing";
    case SymbolState::kUnreadable:
      return "unreadable";
    case SymbolState::kKernel:
      return "kernel";
  }
  return "none";
}

ModuleSymbols::ModuleSymbols(const model::ModuleFile& module, const SearchPlaces& places) {
  if (module.is_vdso()) {
    state_ = SymbolState::kKernel;
    return;
  }
  FoundFile file = find_file(module, places);
  if (file.path.empty()) {
    state_ = state_without_file(file.match);
    return;
  }
  open(module.base_name(), file.path);
}

void ModuleSymbols::open(const std::string& name, const std::string& path) {
  dwfl_.reset(dwfl_begin(&kCallbacks));
  if (!dwfl_) return;
  Dwfl_Module* module = dwfl_report_offline(dwfl_.get(), name.c_str(), path.c_str(), -1);
  dwfl_report_end(dwfl_.get(), nullptr, nullptr);
  GElf_Addr elf_bias = 0;
  if (module == nullptr || dwfl_module_getelf(module, &elf_bias) == nullptr) {
    state_ = SymbolState::kUnreadable;
    return;
  }
  names_ = std::make_unique<SymbolTable>(module, elf_bias);
  if (!names_->empty()) state_ = SymbolState::kNames;

  Dwarf_Addr dwarf_bias = 0;
  if (Dwarf* dwarf = dwfl_module_getdwarf(module, &dwarf_bias)) {
    lines_ = std::make_unique<DwarfIndex>(dwarf);
    dwarf_shift_ = elf_bias - dwarf_bias;
    if (!lines_->empty()) state_ = SymbolState::kLines;
  }
}

const Answer& ModuleSymbols::find(uint64_t address) {
  auto [place, added] = answers_.try_emplace(address);
  Answer& answer = place->second;
  if (!added) return answer;
  const char* name = names_ ? names_->find(address) : nullptr;
  if (lines_) answer.frames = lines_->find(address + dwarf_shift_, name);
  answer.by_lines = !answer.frames.empty();
  if (!answer.by_lines && name != nullptr) answer.frames.push_back({demangle(name), "", 0, false});
  return answer;
}

}  // namespace tidemark::symbolize
