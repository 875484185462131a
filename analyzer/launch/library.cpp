#include "analyzer/launch/library.h"

#include <sys/auxv.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>
#include <string_view>

#include "analyzer/launch/program.h"

namespace tidemark::launch {
namespace {

constexpr const char* kName = "libtidemark.so";
constexpr std::string_view kSeparators = " :";  // ld.so has no way to quote them

// From bin/ of the build tree, or of an installation with any of the usual library folders.
constexpr const char* kPlaces[] = {"/../lib/", "/../lib/x86_64-linux-gnu/", "/../lib64/", "/../lib/tidemark/", "/"};

std::string absolute(const std::string& path) {
  char* resolved = realpath(path.c_str(), nullptr);
  std::string result = resolved ? resolved : "";
  free(resolved);
  return result;
}

// This executable, or empty where nothing tells.
std::string own_file() {
  char path[PATH_MAX];
  ssize_t length = readlink("/proc/self/exe", path, sizeof path);
  if (length > 0) return std::string(path, size_t(length));
  // Without /proc: the name that execve was given; a relative one still holds, for we have not changed the folder.
  auto given = reinterpret_cast<const char*>(getauxval(AT_EXECFN));
  return given ? absolute(given) : "";
}

std::string folder_of(const std::string& file) { return file.substr(0, file.rfind('/')); }

std::string search(const char* override_path) {
  if (override_path && *override_path) return absolute(override_path);
#ifdef TIDEMARK_INSTALLED_LIBRARY  // an installation whose library folder is none of the usual ones
  std::string installed = absolute(TIDEMARK_INSTALLED_LIBRARY);
#else
  std::string installed;
#endif
  std::string file = own_file();
  if (file.empty()) return installed;
  std::string folder = folder_of(file);
  for (const char* place : kPlaces) {
    std::string path = absolute(folder + place + kName);
    if (!path.empty()) return path;
  }
  return installed;
}

std::string why_missing(const char* override_path) {
  bool overridden = override_path && *override_path;
  std::string file = overridden ? "" : own_file();
  if (!overridden && file.empty())
    return std::string("where ") + kName + " lies cannot be found out, for /proc is not mounted; set TIDEMARK_LIBRARY";
  std::string place = overridden ? std::string(override_path) : folder_of(file) + kPlaces[0] + kName;
  return std::string(kName) + " is not at " + place + "; build or install tidemark whole, or set TIDEMARK_LIBRARY";
}

}  // namespace

Library find_library(const char* override_path) {
  std::string path = search(override_path);
  if (path.empty()) return {{}, why_missing(override_path)};
  if (path.find_first_of(kSeparators) != path.npos) {
    return {{},
            path + " cannot be preloaded: LD_PRELOAD takes no path with a space or a colon; move it, or set TIDEMARK_LIBRARY"};
  }
  return {path, {}};
}

std::string preload_list(const std::string& library, const char* present) {
  std::string result = library;
  std::string_view rest = present ? present : "";
  while (!rest.empty()) {
    size_t end = rest.find_first_of(kSeparators);
    std::string_view item = rest.substr(0, end);
    if (!item.empty() && item != library) result.append(":").append(item);
    rest = end == rest.npos ? std::string_view{} : rest.substr(end + 1);
  }
  return result;
}

}  // namespace tidemark::launch
