#include "analyzer/symbolize/symbolizer.h"

#include <filesystem>

namespace tidemark::symbolize {

Symbolizer::Symbolizer(const model::ModuleMap& modules, const model::Process& process, ModuleCache& cache, const std::string& region)
    : modules_(modules), process_(process), region_(region), cache_(cache) {
  places_.running_pid = process.pid_here.value_or(0);
  places_.process_started_ns = process.started_ns;
  places_.working_folder = process.cwd;
}

SymbolState Symbolizer::Opened::state() const {
  if (symbols->state() != SymbolState::kLines || found_lines || !found_none) return symbols->state();
  return symbols->has_names() ? SymbolState::kNames : SymbolState::kNone;
}

Symbolizer::Opened& Symbolizer::module(uint32_t index) {
  Opened& opened = opened_[index];
  if (!opened.symbols) opened.symbols = cache_.open(modules_.files()[index], places_);
  return opened;
}

const std::vector<SourceFrame>& Symbolizer::find(const model::Frame& frame) {
  static const std::vector<SourceFrame> kUnknown(1);
  static const std::vector<SourceFrame> kTrampoline{{"<signal handler called>", "", 0, false}};
  static const std::vector<SourceFrame> kKernel{{"<kernel code in the process>", "", 0, false}};
  if (frame.signal) return kTrampoline;
  if (frame.module >= modules_.files().size()) {
    const std::vector<SourceFrame>* generated = find_generated(frame.exact ? frame.offset : frame.offset - 1);
    return generated ? *generated : kUnknown;
  }
  if (modules_.files()[frame.module].is_vdso()) return kKernel;

  // A return address lies behind its call, perhaps already in the next line or function.
  uint64_t address = frame.exact ? frame.offset : frame.offset - 1;
  Opened& opened = module(frame.module);
  const Answer& answer = opened.symbols->find(address);
  (answer.by_lines ? opened.found_lines : opened.found_none) = true;
  return answer.frames.empty() ? kUnknown : answer.frames;
}

const std::vector<SourceFrame>* Symbolizer::find_generated(uint64_t address) {
  if (!generated_) generated_ = GeneratedCode::of(process_, std::filesystem::path(region_).parent_path());
  if (const SourceFrame* frame = generated_->find(address)) return &generated_answers_.try_emplace(address, 1, *frame).first->second;
  unnamed_.insert(address);
  return nullptr;
}

std::map<uint32_t, SymbolState> Symbolizer::states() const {
  std::map<uint32_t, SymbolState> states;
  for (auto& [index, opened] : opened_) states[index] = opened.state();
  return states;
}

}  // namespace tidemark::symbolize
