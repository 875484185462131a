// Reads a region file (preload/format/region.h) that may be live, cut, damaged or forged.
//
// A Region owns a private copy of the used pages, taken once: nothing it returns can change or fault afterwards, even when the
// writer goes on, `tidemark run` trims the file, or someone truncates it. No offset, id, count or string of the file is trusted:
// whatever cannot be read is absent (std::nullopt, an empty string), and what that costs is for the caller to count.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "analyzer/region/large_pages.h"
#include "preload/format/region.h"

namespace tidemark::region {

using Bytes = std::vector<std::byte, LargePages<std::byte>>;

// Why a file is no readable region: one line for a person, without the file's name.
class ReadError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A StackRecord with the shared counters added. `oldest` and `deaths_lost` as in StackPage.
struct StackEntry {
  uint32_t id;
  uint32_t leaf;
  format::StackKind kind;
  uint64_t allocated_count, allocated_bytes;
  uint64_t freed_count, freed_bytes;
  uint64_t peak_live_bytes;
  uint64_t max_request_shared;  // largest block while threads shared the stack; 0: never shared
  bool any_thread_shares;       // not only those that have counters of their own
  uint32_t detail;
  uint32_t first_tick, last_tick;
  uint32_t oldest;
  bool deaths_lost;
};

class Region {
 public:
  // Both throw ReadError when there is nothing to be read: not a region, another version, header or directory missing.
  static Region open(const std::string& path);
  static Region parse(Bytes bytes);
  static Region parse(std::span<const std::byte> bytes) { return parse(Bytes(bytes.begin(), bytes.end())); }

  const format::Header& header() const { return header_; }

  uint64_t used_pages() const { return used_pages_; }
  uint64_t missing_pages() const;  // used, but cut off
  bool misses_counters() const;    // of any stack: all sums are too small, or wrong
  format::PageKind page_kind(uint64_t page) const;

  // Records by line id; nullopt when the id lies outside the file or on a page of another kind.
  std::optional<format::Node> node(uint32_t id) const;
  std::optional<format::Detail> detail(uint32_t id) const;
  std::optional<StackEntry> stack(uint32_t id) const;

  // All committed records, in file order. Of stacks there may be millions: visit(const StackEntry&) is called for one after the other.
  template <typename Visit>
  void for_each_stack(Visit visit) const {
    for (uint64_t page = 0; page < kinds_.size(); ++page) {
      if (page_kind(page) != format::PageKind::kStacks) continue;
      for (uint32_t slot = 0; slot < format::kStacksPerPage; ++slot)
        if (auto entry = stack_at(page, slot)) visit(*entry);
    }
  }
  uint64_t most_stacks() const;  // no fewer than there are
  std::vector<format::Module> modules() const;
  std::vector<format::Thread> threads() const;
  std::vector<format::ProcessPoint> points() const;
  std::vector<format::Purge> purges() const;
  std::vector<format::Event> events() const;
  std::vector<format::MarkRecord> marks() const;
  std::vector<format::MappingStack> mapping_stacks() const;

  std::string text(format::TextRef ref) const;

 private:
  Region() = default;
  void read_directory();
  template <typename T>
  std::optional<T> line(uint32_t id, format::PageKind kind) const;
  template <typename T>
  std::optional<T> at(uint64_t offset) const;
  std::optional<StackEntry> stack_at(uint64_t page, uint32_t slot) const;
  template <typename T, typename Visit>
  void for_each(format::PageKind kind, Visit visit) const;
  template <typename T, typename Committed>
  std::vector<T> all(format::PageKind kind, Committed committed) const;

  Bytes bytes_;
  std::vector<uint8_t> kinds_;
  format::Header header_{};
  uint64_t used_pages_ = 0;
};

// Seconds from the process's start to a tick. A fork child's ticks go on from its parent's: one from before it began is told as its start.
inline double seconds_at(const format::Header& header, uint64_t tick) {
  return tick <= header.first_tick ? 0 : double(tick - header.first_tick) / format::kTicksPerSecond;
}

// Throws ReadError unless this is the start of a region that this program understands. `file_bytes`: what the file has.
void check_identity(const format::Header& header, uint64_t file_bytes);

}  // namespace tidemark::region
