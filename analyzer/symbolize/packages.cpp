#include "analyzer/symbolize/packages.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <vector>

namespace tidemark::symbolize {

namespace fs = std::filesystem;

namespace {

// dpkg may list a file under /lib that lies in /usr/lib since the merge, or the other way round.
std::vector<std::string> spellings(const std::string& path) {
  std::vector<std::string> result{path};
  std::error_code error;
  fs::path real = fs::canonical(path, error);
  if (!error && real != path) result.push_back(real);
  for (size_t i = 0, count = result.size(); i < count; ++i)
    result.push_back(result[i].starts_with("/usr/") ? result[i].substr(4) : "/usr" + result[i]);
  return result;
}

std::string package_of_list(const fs::path& list) {
  std::string name = list.stem();
  return name.substr(0, name.find(':'));
}

}  // namespace

std::map<std::string, std::string> owning_packages(const std::set<std::string>& paths, const std::string& folder) {
  std::map<std::string, std::string> wanted;  // spelling → path
  for (const std::string& path : paths)
    for (const std::string& spelling : spellings(path)) wanted.emplace(spelling, path);

  std::map<std::string, std::string> owners;
  if (wanted.empty()) return owners;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    if (entry->path().extension() != ".list") continue;
    std::ifstream list(entry->path());
    for (std::string line; std::getline(list, line);)
      if (auto found = wanted.find(line); found != wanted.end()) owners.emplace(found->second, package_of_list(entry->path()));
  }
  return owners;
}

std::string debug_package(const std::string& package) {
  // Sources that still make debug packages by hand.
  if (package == "libc6") return "libc6-dbg";
  bool python = package.starts_with("python3.") || package.starts_with("libpython3.");
  if (python) {
    std::string base = package.substr(0, package.find('-'));
    return base + "-dbg";
  }
  return package + "-dbgsym";
}

}  // namespace tidemark::symbolize
