// Modules that several regions share: read once for a whole folder.
#pragma once
#include <map>
#include <memory>
#include <string>

#include "analyzer/symbolize/module_symbols.h"

namespace tidemark::symbolize {

class ModuleCache {
 public:
  // Found by build-id: of a module without one, or whose file was not found, nothing is kept. May forget what it had; who
  // holds a pointer keeps it alive. Not thread-safe.
  std::shared_ptr<ModuleSymbols> open(const model::ModuleFile& module, const SearchPlaces& places);

 private:
  std::map<std::string, std::shared_ptr<ModuleSymbols>> by_build_id_;
};

}  // namespace tidemark::symbolize
