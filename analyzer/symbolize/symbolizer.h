// From frames of a profile to functions, files and lines. Opens a module when its first frame is asked for.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "analyzer/model/frame_tree.h"
#include "analyzer/model/process.h"
#include "analyzer/symbolize/module_cache.h"

namespace tidemark::symbolize {

class Symbolizer {
 public:
  // `modules` and `cache` must outlive the symbolizer.
  Symbolizer(const model::ModuleMap& modules, const model::Process& process, ModuleCache& cache);

  // What was compiled into this frame, innermost first, at least one; its function is empty when unknown. Valid until the
  // symbolizer ends.
  const std::vector<SourceFrame>& find(const model::Frame& frame);

  // Of the modules that were asked for so far, by index, and of the addresses: a file may have lines for a few hand-written
  // functions only.
  std::map<uint32_t, SymbolState> states() const;

 private:
  struct Opened {
    std::shared_ptr<ModuleSymbols> symbols;
    bool found_lines = false, found_none = false;
    SymbolState state() const;
  };
  Opened& module(uint32_t index);

  const model::ModuleMap& modules_;
  ModuleCache& cache_;
  SearchPlaces places_;
  std::unordered_map<uint32_t, Opened> opened_;
};

}  // namespace tidemark::symbolize
