#include "analyzer/launch/program.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>

namespace tidemark::launch {
namespace {

// 0, or the errno that execve would give.
int why_not(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return errno;
  if (S_ISDIR(info.st_mode)) return EISDIR;
  if (!S_ISREG(info.st_mode)) return EACCES;
  return faccessat(AT_FDCWD, path.c_str(), X_OK, AT_EACCESS) == 0 ? 0 : errno;
}

Program refused(const std::string& name, int error) {
  int status = error == ENOENT || error == ENOTDIR ? kNotFound : kNotExecutable;
  return {{}, status, name + ": " + strerror(error)};
}

std::string_view take_folder(std::string_view& list) {
  size_t colon = list.find(':');
  std::string_view folder = list.substr(0, colon);
  list = colon == list.npos ? std::string_view{} : list.substr(colon + 1);
  return folder;
}

}  // namespace

Program find_program(const std::string& name, const char* search_path) {
  if (name.find('/') != name.npos) {
    int error = why_not(name);
    return error ? refused(name, error) : Program{name, 0, {}};
  }
  std::string_view list = search_path ? search_path : "/bin:/usr/bin";
  bool more = !name.empty(), denied = false;
  while (more) {
    more = list.find(':') != list.npos;
    std::string_view folder = take_folder(list);
    std::string path = folder.empty() ? name : std::string(folder) + '/' + name;
    int error = why_not(path);
    // A name without a slash is searched for again by execvp; an empty entry means the current folder.
    if (error == 0) return {folder.empty() ? "./" + name : path, 0, {}};
    if (error == EACCES) denied = true;
  }
  if (denied) return refused(name, EACCES);
  return {{}, kNotFound, name + ": command not found"};
}

std::string base_name(const std::string& path) {
  size_t slash = path.rfind('/');
  return slash == path.npos ? path : path.substr(slash + 1);
}

}  // namespace tidemark::launch
