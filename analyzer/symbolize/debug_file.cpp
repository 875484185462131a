#include "analyzer/symbolize/debug_file.h"

#include <dlfcn.h>
#include <elfutils/debuginfod.h>
#include <elfutils/libdwelf.h>
#include <fcntl.h>
#include <gelf.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <optional>
#include <string_view>
#include <vector>

namespace tidemark::symbolize {

namespace {

class ElfFile {
 public:
  explicit ElfFile(const std::string& path) {
    elf_version(EV_CURRENT);
    // O_NONBLOCK: the name comes from the region and may lead to a FIFO.
    fd_ = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    error_ = fd_ < 0 ? errno : 0;
    if (fd_ < 0 || fstat(fd_, &status_) != 0 || !S_ISREG(status_.st_mode)) return;
    elf_ = elf_begin(fd_, ELF_C_READ_MMAP, nullptr);
    if (elf_ != nullptr && elf_kind(elf_) != ELF_K_ELF) {
      elf_end(elf_);
      elf_ = nullptr;
    }
  }
  ~ElfFile() {
    if (elf_ != nullptr) elf_end(elf_);
    if (fd_ >= 0) close(fd_);
  }
  ElfFile(const ElfFile&) = delete;
  ElfFile& operator=(const ElfFile&) = delete;

  bool is_elf() const { return elf_ != nullptr; }
  bool is_missing() const { return error_ == ENOENT || error_ == ENOTDIR; }
  uint64_t bytes() const { return uint64_t(status_.st_size); }
  int64_t mtime_ns() const { return int64_t(status_.st_mtim.tv_sec) * 1'000'000'000 + status_.st_mtim.tv_nsec; }

  std::string build_id() const {
    const void* bits = nullptr;
    ssize_t size = elf_ ? dwelf_elf_gnu_build_id(elf_, &bits) : -1;
    return size > 0 ? std::string(static_cast<const char*>(bits), size_t(size)) : std::string();
  }

 private:
  int fd_ = -1;
  int error_ = 0;
  struct stat status_ {};
  Elf* elf_ = nullptr;
};

bool is_same(const ElfFile& file, const model::ModuleFile& module, const SearchPlaces& places) {
  if (!module.build_id.empty()) return file.build_id() == module.build_id;
  if (module.file_bytes == 0) return places.process_started_ns != 0 && file.mtime_ns() < places.process_started_ns;
  return file.bytes() == module.file_bytes && file.mtime_ns() == module.mtime_ns;
}

FileMatch examine(const std::string& path, const model::ModuleFile& module, const SearchPlaces& places) {
  ElfFile file(path);
  if (file.is_elf()) return is_same(file, module, places) ? FileMatch::kSame : FileMatch::kChanged;
  return file.is_missing() ? FileMatch::kMissing : FileMatch::kUnreadable;
}

// Debian's place for debug files.
std::string installed_debug_file(const model::ModuleFile& module) {
  std::string id = module.build_id_hex();
  return id.size() > 2 ? "/usr/lib/debug/.build-id/" + id.substr(0, 2) + "/" + id.substr(2) + ".debug" : "";
}

// Loaded on demand: it brings libcurl with it. Used only for modules whose own file is gone; for the others libdwfl asks.
std::optional<std::string> from_debuginfod(const model::ModuleFile& module) {
  const char* urls = std::getenv("DEBUGINFOD_URLS");
  if (urls == nullptr || *urls == '\0') return std::nullopt;
  void* library = dlopen("libdebuginfod.so.1", RTLD_NOW);
  if (library == nullptr) return std::nullopt;
  auto begin = reinterpret_cast<decltype(&debuginfod_begin)>(dlsym(library, "debuginfod_begin"));
  auto find = reinterpret_cast<decltype(&debuginfod_find_debuginfo)>(dlsym(library, "debuginfod_find_debuginfo"));
  auto end = reinterpret_cast<decltype(&debuginfod_end)>(dlsym(library, "debuginfod_end"));
  if (begin == nullptr || find == nullptr || end == nullptr) return std::nullopt;
  debuginfod_client* client = begin();
  if (client == nullptr) return std::nullopt;

  char* path = nullptr;
  int fd = find(client, reinterpret_cast<const unsigned char*>(module.build_id.data()), int(module.build_id.size()), &path);
  std::optional<std::string> found;
  if (fd >= 0) {
    found = path;
    close(fd);
    std::free(path);
  }
  end(client);
  return found;
}

std::vector<std::string> own_paths(const model::ModuleFile& module, const SearchPlaces& places) {
  static constexpr std::string_view kDeleted = " (deleted)";
  std::string path = module.path;
  if (path.ends_with(kDeleted)) path.resize(path.size() - kDeleted.size());
  if (path.find('/') == std::string::npos) return {};
  std::vector<std::string> paths;
  if (path.starts_with('/')) {
    paths.push_back(path);
  } else {
    // dlopen("./plugin.so"): the loader keeps such a name. It was meant from the process's folder, which may have been another
    // by then: the build-id tells.
    if (places.running_pid > 0) paths.push_back("/proc/" + std::to_string(places.running_pid) + "/cwd/" + path);
    if (!places.working_folder.starts_with('/')) return paths;
    path = places.working_folder + "/" + path;
    paths.push_back(path);
  }
  // In a container the same name may be another file.
  if (places.running_pid > 0) paths.push_back("/proc/" + std::to_string(places.running_pid) + "/root" + path);
  return paths;
}

}  // namespace

FoundFile find_file(const model::ModuleFile& module, const SearchPlaces& places) {
  FileMatch worst = FileMatch::kMissing;
  for (const std::string& path : own_paths(module, places)) {
    FileMatch match = examine(path, module, places);
    if (match == FileMatch::kSame) return {match, path};
    if (worst == FileMatch::kMissing) worst = match;
  }
  if (module.build_id.empty()) return {worst, ""};

  std::string debug = installed_debug_file(module);
  if (!debug.empty() && examine(debug, module, places) == FileMatch::kSame) return {FileMatch::kDebugOnly, debug};
  if (places.use_debuginfod)
    if (auto fetched = from_debuginfod(module)) return {FileMatch::kDebugOnly, *fetched};
  return {worst, ""};
}

}  // namespace tidemark::symbolize
