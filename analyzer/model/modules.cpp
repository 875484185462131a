#include "analyzer/model/modules.h"

#include <algorithm>
#include <map>
#include <string_view>
#include <tuple>
#include <utility>

namespace tidemark::model {

namespace {

ModuleFile file_of(const region::Region& region, const format::Module& module) {
  ModuleFile file;
  file.path = region.text(module.path);
  size_t id_bytes = std::min<size_t>(module.build_id_bytes, sizeof(module.build_id));
  file.build_id.assign(reinterpret_cast<const char*>(module.build_id), id_bytes);
  if (id_bytes == 0) {
    file.file_bytes = module.file_bytes;
    file.mtime_ns = module.mtime_ns;
  } else if (file.path.empty()) {
    // The loader's name for the executable is empty; whether it is that one, the build-id will tell.
    file.path = region.text(region.header().exe);
  }
  return file;
}

}  // namespace

std::string ModuleFile::base_name() const {
  std::string name = path.substr(path.rfind('/') + 1);
  static constexpr std::string_view kDeleted = " (deleted)";
  if (name.ends_with(kDeleted)) name.resize(name.size() - kDeleted.size());
  return name;
}

std::string ModuleFile::build_id_hex() const {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (unsigned char byte : build_id) {
    hex += kDigits[byte >> 4];
    hex += kDigits[byte & 15];
  }
  return hex;
}

bool ModuleFile::is_shim() const { return base_name() == "libtidemark.so"; }

bool ModuleFile::is_c_library() const {
  std::string name = base_name();
  return name.starts_with("libc.so.") || name.starts_with("libpthread.so.") || name.starts_with("ld-linux");
}

bool ModuleFile::is_vdso() const {
  std::string name = base_name();
  return name == "linux-vdso.so.1" || name == "linux-gate.so.1" || name == "[vdso]";
}

ModuleMap::ModuleMap(const region::Region& region) {
  std::map<std::tuple<std::string, std::string, uint64_t, int64_t>, uint32_t> known;
  for (const format::Module& module : region.modules()) {
    ModuleFile file = file_of(region, module);
    auto key = std::make_tuple(file.path, file.build_id, file.file_bytes, file.mtime_ns);
    auto [place, added] = known.emplace(key, uint32_t(files_.size()));
    if (added) files_.push_back(std::move(file));
    instances_.push_back({module.start, module.end, module.bias, module.generation, place->second});
  }
  std::stable_sort(instances_.begin(), instances_.end(),
                   [](const ModuleInstance& a, const ModuleInstance& b) { return a.start < b.start; });
  index();
}

void ModuleMap::add_extent(uint64_t start, uint64_t end, uint32_t instance) {
  if (start < end) extents_.push_back({instances_[instance].generation, start, end, instance});
}

// Members by start. On the stack lie those that began before, the last one on top: it answers until it ends or another begins.
void ModuleMap::index_generation(const std::vector<uint32_t>& members) {
  std::vector<uint32_t> open;
  uint64_t done = 0;
  auto close_until = [&](uint64_t limit) {
    for (; !open.empty() && instances_[open.back()].end <= limit; open.pop_back()) {
      add_extent(done, instances_[open.back()].end, open.back());
      done = std::max(done, instances_[open.back()].end);
    }
    if (!open.empty()) add_extent(done, limit, open.back());
    done = limit;
  };
  for (uint32_t member : members) {
    close_until(instances_[member].start);
    open.push_back(member);
  }
  close_until(UINT64_MAX);
}

void ModuleMap::index() {
  std::map<uint32_t, std::vector<uint32_t>> generations;
  for (uint32_t i = 0; i < instances_.size(); ++i) generations[instances_[i].generation].push_back(i);
  for (const auto& [generation, members] : generations) index_generation(members);
}

const ModuleInstance* ModuleMap::resolve(uint64_t pc, uint32_t generation) const {
  auto after = std::upper_bound(extents_.begin(), extents_.end(), std::pair(generation, pc),
                                [](const auto& value, const Extent& extent) { return value < std::pair(extent.generation, extent.start); });
  if (after == extents_.begin()) return nullptr;
  const Extent& extent = *--after;
  return extent.generation == generation && pc < extent.end ? &instances_[extent.instance] : nullptr;
}

}  // namespace tidemark::model
