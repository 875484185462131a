#include "analyzer/symbolize/symbolizer.h"

namespace tidemark::symbolize {

Symbolizer::Symbolizer(const model::ModuleMap& modules, const model::Process& process) : modules_(modules) {
  if (process.ending == model::Ending::kRunning) places_.running_pid = process.pid;
  places_.process_started_ns = process.started_ns;
  places_.working_folder = process.cwd;
}

ModuleSymbols& Symbolizer::module(uint32_t index) {
  auto& opened = opened_[index];
  if (!opened) opened = std::make_unique<ModuleSymbols>(modules_.files()[index], places_);
  return *opened;
}

const std::vector<SourceFrame>& Symbolizer::find(const model::Frame& frame) {
  static const std::vector<SourceFrame> kUnknown(1);
  static const std::vector<SourceFrame> kTrampoline{{"<signal handler called>", "", 0, false}};
  static const std::vector<SourceFrame> kKernel{{"<kernel code in the process>", "", 0, false}};
  if (frame.signal) return kTrampoline;
  if (frame.module >= modules_.files().size()) return kUnknown;
  if (modules_.files()[frame.module].is_vdso()) return kKernel;

  // A return address lies behind its call, perhaps already in the next line or function.
  uint64_t address = frame.exact ? frame.offset : frame.offset - 1;
  auto [place, added] = answers_.try_emplace({frame.module, address});
  if (added) {
    place->second = module(frame.module).find(address);
    if (place->second.empty()) place->second = kUnknown;
  }
  return place->second;
}

std::map<uint32_t, SymbolState> Symbolizer::states() const {
  std::map<uint32_t, SymbolState> states;
  for (auto& [index, symbols] : opened_) states[index] = symbols->state();
  return states;
}

}  // namespace tidemark::symbolize
