// From frames of a profile to functions, files and lines. Opens a module when its first frame is asked for.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "analyzer/model/frame.h"
#include "analyzer/model/modules.h"
#include "analyzer/model/process.h"
#include "analyzer/symbolize/generated_code.h"
#include "analyzer/symbolize/module_cache.h"

namespace tidemark::symbolize {

class Symbolizer {
 public:
  // `modules`, `process` and `cache` must outlive the symbolizer. `region`: the path of the file; what a JIT compiler left may lie beside it.
  Symbolizer(const model::ModuleMap& modules, const model::Process& process, ModuleCache& cache, const std::string& region = {});

  // What was compiled into this frame, innermost first, at least one; its function is empty when unknown. Valid until the
  // symbolizer ends.
  const std::vector<SourceFrame>& find(const model::Frame& frame);

  // Of the modules that were asked for so far, by index, and of the addresses: a file may have lines for a few hand-written
  // functions only.
  std::map<uint32_t, SymbolState> states() const;

  // Addresses without a module that were asked for and have no name.
  size_t unnamed() const { return unnamed_.size(); }
  // See GeneratedCode; as far as such addresses were asked for.
  std::vector<std::string> names_too_new() const { return generated_ ? generated_->too_new() : std::vector<std::string>(); }

 private:
  struct Opened {
    std::shared_ptr<ModuleSymbols> symbols;
    bool found_lines = false, found_none = false;
    SymbolState state() const;
  };
  Opened& module(uint32_t index);
  const std::vector<SourceFrame>* find_generated(uint64_t address);

  const model::ModuleMap& modules_;
  const model::Process& process_;
  std::string region_;
  ModuleCache& cache_;
  SearchPlaces places_;
  std::unordered_map<uint32_t, Opened> opened_;
  std::optional<GeneratedCode> generated_;  // read when a frame without a module is asked for
  std::unordered_map<uint64_t, std::vector<SourceFrame>> generated_answers_;
  std::unordered_set<uint64_t> unnamed_;
};

}  // namespace tidemark::symbolize
