// Makes up region files record by record, as the shim would write them.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "preload/format/region.h"

namespace tidemark::test {

struct ModuleRow {
  uint64_t start, end, bias;
  std::string path;
  std::string build_id;
  uint32_t generation = 0;
  uint64_t file_bytes = 0;
  int64_t mtime_ns = 0;
};

struct StackRow {
  uint64_t allocated_count, allocated_bytes, freed_count = 0, freed_bytes = 0;
  format::StackKind kind = format::StackKind::kOwn;
  uint32_t first_tick = 0, last_tick = 0;
  uint32_t oldest = 0;  // as in StackPage
  bool deaths_lost = false;
};

class RegionBuilder {
 public:
  explicit RegionBuilder(uint64_t region_bytes = format::kMinRegionBytes, uint32_t first_line = 0);

  format::Header& header();
  format::TextRef text(std::string_view text);
  void set_command(const std::vector<std::string>& argv);

  // A group of up to six frames, innermost first.
  uint32_t group(const std::vector<uint64_t>& pcs, uint32_t caller = format::kRootNode, uint32_t generation = 0);
  uint32_t lone(uint64_t pc, format::RuleKind rule, uint32_t caller = format::kRootNode, uint32_t generation = 0);
  // Any number of frames, innermost first.
  uint32_t path(const std::vector<uint64_t>& pcs, uint32_t end = format::kRootNode);

  uint32_t stack(uint32_t leaf, const StackRow& row);
  uint32_t shared(uint32_t stack);  // gives the stack a group of SharedCounters
  uint32_t detail(uint32_t stack);
  void module(const ModuleRow& row);
  void thread(uint32_t tid);
  uint64_t page(format::PageKind kind);  // an empty one

  // The record or any other thing at a line. Valid until the end of the builder.
  template <typename T>
  T& at(uint32_t id) {
    return *reinterpret_cast<T*>(bytes_.data() + uint64_t(id - header().first_line) * format::kLineBytes);
  }

  std::vector<std::byte> used() const;  // cut behind the used pages
  std::vector<std::byte> whole() const { return bytes_; }
  void save(const std::string& path) const;

 private:
  // Room for `bytes` on a page of that kind; returns its offset.
  uint64_t place(format::PageKind kind, uint64_t bytes, uint64_t usable = format::kPageBytes);
  uint32_t line_at(uint64_t offset) { return uint32_t(header().first_line + offset / format::kLineBytes); }

  struct Room {
    uint64_t page = 0, used = format::kPageBytes;
  };
  std::vector<std::byte> bytes_;
  Room rooms_[16];
};

}  // namespace tidemark::test
