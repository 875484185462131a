#include "analyzer/launch/library.h"

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

std::string own_folder() {
  char path[PATH_MAX];
  ssize_t length = readlink("/proc/self/exe", path, sizeof path);
  std::string file(path, length > 0 ? size_t(length) : 0);
  return file.substr(0, file.rfind('/'));
}

std::string search(const char* override_path) {
  if (override_path && *override_path) return absolute(override_path);
#ifdef TIDEMARK_INSTALLED_LIBRARY  // an installation whose library folder is none of the usual ones
  std::string installed = absolute(TIDEMARK_INSTALLED_LIBRARY);
#else
  std::string installed;
#endif
  std::string folder = own_folder();
  for (const char* place : kPlaces) {
    std::string path = absolute(folder + place + kName);
    if (!path.empty()) return path;
  }
  return installed;
}

}  // namespace

Library find_library(const char* override_path) {
  std::string path = search(override_path);
  if (path.empty()) {
    std::string place = override_path && *override_path ? std::string(override_path) : own_folder() + kPlaces[0] + kName;
    return {{}, std::string(kName) + " is not at " + place + "; build or install tidemark whole, or set TIDEMARK_LIBRARY"};
  }
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
