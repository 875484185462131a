#include "analyzer/output/text_symbols.h"

#include <fmt/format.h>
#include <fmt/ostream.h>

#include <map>
#include <set>
#include <string>

#include "analyzer/output/human.h"
#include "analyzer/symbolize/packages.h"

namespace tidemark::output {

using symbolize::SymbolState;

namespace {

bool is_package_of_debug_archive(const std::string& package) { return package.ends_with("-dbgsym"); }

const char* what_is_wrong(SymbolState state) {
  switch (state) {
    case SymbolState::kNames:
      return "names of functions only, no lines";
    case SymbolState::kNone:
      return "no symbols";
    case SymbolState::kChanged:
      return "module changed since the run: its addresses stay numbers";
    case SymbolState::kMissing:
      return "the file is gone: its addresses stay numbers";
    case SymbolState::kUnreadable:
      return "the file cannot be read: its addresses stay numbers";
    case SymbolState::kLines:
    case SymbolState::kKernel:
      break;
  }
  return "";
}

bool package_would_help(SymbolState state) { return state == SymbolState::kNames || state == SymbolState::kNone; }

}  // namespace

void write_symbols(std::ostream& out, const model::Profile& profile, const symbolize::Symbolizer& symbols) {
  std::map<std::string, SymbolState> lacking;
  std::set<std::string> may_be_packaged;
  for (auto [index, state] : symbols.states()) {
    if (state == SymbolState::kLines || state == SymbolState::kKernel) continue;
    const std::string& path = profile.modules.files()[index].path;
    lacking.emplace(path, state);
    if (package_would_help(state)) may_be_packaged.insert(path);
  }
  size_t unnamed = symbols.unnamed();
  if (lacking.empty() && unnamed == 0) return;

  auto owners = symbolize::owning_packages(may_be_packaged);
  std::set<std::string> packages;
  fmt::print(out, "\nSymbols\n");
  for (const auto& [path, state] : lacking) {
    auto owner = owners.find(path);
    std::string remedy = package_would_help(state) ? "; compile it with -g" : "";
    if (owner != owners.end()) {
      std::string package = symbolize::debug_package(owner->second);
      packages.insert(package);
      remedy = "; " + package + " has them";
    }
    fmt::print(out, "  {}: {}{}\n", printable(path.empty() ? "(unnamed module)" : path), what_is_wrong(state), remedy);
  }
  if (unnamed != 0) {
    fmt::print(out, "  {} {} of generated code: no name in {}\n", unnamed, unnamed == 1 ? "address" : "addresses",
               fmt::format("/tmp/perf-{0}.map, jit-{0}.dump", profile.process.pid));
    for (const std::string& path : symbols.names_too_new())
      fmt::print(out, "    not used, for it was written after the process had ended: {}; if it is this one's, copy it beside the region\n", printable(path));
    fmt::print(out, "    next time: node --perf-basic-prof, python -X perf, php with opcache.jit_debug=0x10,\n"
                    "    java -XX:+PreserveFramePointer -XX:+UnlockDiagnosticVMOptions -XX:+DumpPerfMapAtExit (17 and later)\n");
  }
  if (packages.empty()) return;
  std::string list;
  bool debug_archive = false;
  for (const std::string& package : packages) {
    list += " " + package;
    debug_archive |= is_package_of_debug_archive(package);
  }
  fmt::print(out, "  apt install{}{}\n", list,
             debug_archive ? "   (-dbgsym: from Debian's debug archive; or set DEBUGINFOD_URLS)" : "");
}

}  // namespace tidemark::output
