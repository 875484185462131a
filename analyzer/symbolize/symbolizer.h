// From frames of a profile to functions, files and lines. Opens a module when its first frame is asked for, and keeps every
// answer.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "analyzer/model/frame_tree.h"
#include "analyzer/model/process.h"
#include "analyzer/symbolize/module_symbols.h"

namespace tidemark::symbolize {

class Symbolizer {
 public:
  // `modules` must outlive the symbolizer.
  Symbolizer(const model::ModuleMap& modules, const model::Process& process);

  // What was compiled into this frame, innermost first, at least one; its function is empty when unknown. Valid until the
  // symbolizer ends.
  const std::vector<SourceFrame>& find(const model::Frame& frame);

  // Of the modules that were asked for so far, by index.
  std::map<uint32_t, SymbolState> states() const;

 private:
  ModuleSymbols& module(uint32_t index);

  const model::ModuleMap& modules_;
  SearchPlaces places_;
  std::unordered_map<uint32_t, std::unique_ptr<ModuleSymbols>> opened_;
  std::map<std::pair<uint32_t, uint64_t>, std::vector<SourceFrame>> answers_;  // by module, address of the instruction
};

}  // namespace tidemark::symbolize
