#include "analyzer/symbolize/module_cache.h"

namespace tidemark::symbolize {

namespace {
constexpr size_t kMost = 256;  // a debug file can take 100 MB, a process has tens of modules
}

std::shared_ptr<ModuleSymbols> ModuleCache::open(const model::ModuleFile& module, const SearchPlaces& places) {
  if (auto known = by_build_id_.find(module.build_id); known != by_build_id_.end()) return known->second;
  auto opened = std::make_shared<ModuleSymbols>(module, places);
  bool found = opened->state() == SymbolState::kLines || opened->state() == SymbolState::kNames;
  if (found && !module.build_id.empty()) {
    if (by_build_id_.size() >= kMost) by_build_id_.clear();
    by_build_id_[module.build_id] = opened;
  }
  return opened;
}

}  // namespace tidemark::symbolize
