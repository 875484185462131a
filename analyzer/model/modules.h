// The files whose code was loaded, and where each lay while it was.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "analyzer/region/region.h"

namespace tidemark::model {

// One file, however often it was loaded. Identity: the build-id, or without one path, size and mtime.
struct ModuleFile {
  std::string path;
  std::string build_id;  // bytes; empty: none
  uint64_t file_bytes = 0;
  int64_t mtime_ns = 0;

  std::string base_name() const;
  std::string build_id_hex() const;
  bool is_shim() const;  // libtidemark.so itself
  bool is_c_library() const;  // or its loader: threads begin there
  bool is_vdso() const;  // code the kernel provides: there is no file
  bool operator==(const ModuleFile&) const = default;
};

struct ModuleInstance {
  uint64_t start, end;
  uint64_t bias;
  uint32_t generation;
  uint32_t file;  // index into ModuleMap::files
};

class ModuleMap {
 public:
  ModuleMap() = default;
  explicit ModuleMap(const region::Region& region);

  const std::vector<ModuleFile>& files() const { return files_; }
  const std::vector<ModuleInstance>& instances() const { return instances_; }  // by start

  // The module that covered `pc` for a frame of that generation; nullptr: none known.
  const ModuleInstance* resolve(uint64_t pc, uint32_t generation) const;

 private:
  // Where one instance answers for a generation: of those that overlap, which a damaged region may hold in any number, the one that starts last.
  struct Extent {
    uint32_t generation;
    uint64_t start, end;
    uint32_t instance;
  };
  void index_generation(const std::vector<uint32_t>& members);
  void add_extent(uint64_t start, uint64_t end, uint32_t instance);
  void index();

  std::vector<ModuleFile> files_;
  std::vector<ModuleInstance> instances_;
  std::vector<Extent> extents_;        // of all generations, in order; those of one do not overlap
};

}  // namespace tidemark::model
