#include "analyzer/commands/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <optional>

#include "analyzer/commands/folder_room.h"
#include "analyzer/output/human.h"
#include "analyzer/output/json.h"
#include "analyzer/output/report.h"
#include "analyzer/output/text.h"

namespace tidemark::commands {

namespace fs = std::filesystem;
using output::Report;
using output::ReportOptions;

namespace {

constexpr size_t kTopInText = 10;
constexpr int kUnreadable = 2;

void complain(const std::string& path, const std::string& what) {
  std::cerr << "tidemark: " << output::printable(path) << ": " << output::printable(what) << '\n';
}

// The regions named by the arguments, folders expanded. False when a folder could not be read or holds none.
bool expand(const std::vector<std::string>& paths, std::vector<std::string>& files, std::vector<FolderRoom>& folders) {
  bool good = true;
  for (const std::string& path : paths) {
    std::error_code error;
    if (!fs::is_directory(path, error)) {
      files.push_back(path);
      continue;
    }
    std::vector<std::string> found;
    for (fs::directory_iterator entry(path, error), end; !error && entry != end; entry.increment(error))
      if (entry->path().extension() == ".tide") found.push_back(entry->path());
    if (error || found.empty()) {
      complain(path, error ? "folder cannot be read: " + error.message() : "no region (*.tide) in this folder");
      good = false;
    }
    std::sort(found.begin(), found.end());
    folders.emplace_back(path, found);
    files.insert(files.end(), found.begin(), found.end());
  }
  return good;
}

std::optional<Report> open(const std::string& path, model::Surroundings& surroundings, const ReportOptions& options) try {
  return Report::open(path, surroundings, options.top == 0 ? model::kAllSites : options.top);
} catch (const region::ReadError& error) {
  complain(path, error.what());
  return std::nullopt;
} catch (const std::exception& error) {  // no memory
  complain(path, error.what());
  return std::nullopt;
}

// Whether all of it was there.
bool is_whole(const Report& report) {
  const model::Damage& damage = report.profile->damage;
  if (damage.missing_pages != 0)
    complain(report.path, fmt::format("truncated: {} of {} pages; copy the whole file", damage.used_pages - damage.missing_pages, damage.used_pages));
  return damage.missing_pages == 0;
}

class Printer {
 public:
  Printer(bool json, bool several) : json_(json), several_(several) {
    if (json_ && several_) std::cout << "{\"reports\":[\n";
  }
  void print(const Report& report, const ReportOptions& options) {
    if (printed_++ != 0) std::cout << (json_ ? ",\n" : "\n" + std::string(100, '-') + "\n\n");
    json_ ? output::write_json(std::cout, report, options) : output::write_text(std::cout, report, options);
  }
  void finish() {
    if (json_ && several_) std::cout << "]}";
    if (json_ && (several_ || printed_ != 0)) std::cout << '\n';
    std::cout.flush();
  }

 private:
  bool json_, several_;
  size_t printed_ = 0;
};

}  // namespace

int report(const ReportArguments& arguments) {
  std::vector<std::string> files;
  std::vector<FolderRoom> folders;
  bool good = expand(arguments.paths, files, folders);
  bool several = files.size() > 1 || arguments.paths.size() > 1 ||
                 (arguments.paths.size() == 1 && !files.empty() && files[0] != arguments.paths[0]);

  ReportOptions options;
  options.top = arguments.top >= 0 ? size_t(arguments.top) : arguments.json ? 0 : kTopInText;
  options.full = arguments.full;
  options.details = arguments.details;

  model::Surroundings surroundings = model::Surroundings::here();
  Printer printer(arguments.json, several);
  for (const std::string& file : files) {
    if (auto opened = open(file, surroundings, options)) {
      printer.print(*opened, options);
      for (FolderRoom& folder : folders) folder.see(*opened);
      good &= is_whole(*opened);
    } else {
      good = false;
    }
  }
  printer.finish();
  if (!std::cout) {
    std::cerr << "tidemark: the report could not be written completely\n";
    return kUnreadable;
  }
  for (const FolderRoom& folder : folders)
    if (auto note = folder.note()) complain(folder.folder(), *note);
  return good ? 0 : kUnreadable;
}

}  // namespace tidemark::commands
