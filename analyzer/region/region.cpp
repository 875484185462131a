#include "analyzer/region/region.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "analyzer/region/arithmetic.h"
#include "analyzer/region/file_copy.h"

namespace tidemark::region {

using namespace format;

namespace {

bool all_zero(const Header& header) {
  auto bytes = reinterpret_cast<const unsigned char*>(&header);
  return std::all_of(bytes, bytes + sizeof(header), [](unsigned char byte) { return byte == 0; });
}

bool describes_this_version(const Header& header) {
  for (size_t i = 0; i < std::size(kRecords); ++i) {
    const RecordInfo& theirs = header.records[i];
    if (theirs.kind != kRecords[i].kind || theirs.per_page != kRecords[i].per_page || theirs.bytes != kRecords[i].bytes)
      return false;
  }
  return header.page_bytes == kPageBytes && header.line_bytes == kLineBytes && header.ticks_per_second == kTicksPerSecond;
}

}  // namespace

void check_identity(const Header& header, uint64_t file_bytes) {
  if (file_bytes == 0) throw ReadError("the file is empty; give a region that libtidemark.so wrote (NAME.PID.tide)");
  bool complete = file_bytes >= sizeof(Header);
  if (complete && all_zero(header))
    throw ReadError("the region is still being created, or its creation was never finished; try again in a second");
  static constexpr char kUnfinished[sizeof(kMagic)] = {};
  if (complete && std::memcmp(header.magic, kUnfinished, sizeof(kMagic)) == 0 && header.version == kVersion)
    throw ReadError("the region is still being created, or its creation was never finished; try again in a second");
  size_t magic_bytes = std::min<uint64_t>(file_bytes, sizeof(kMagic));
  if (std::memcmp(header.magic, kMagic, magic_bytes) != 0)
    throw ReadError("not a tidemark region; give a file that libtidemark.so wrote (NAME.PID.tide)");
  if (!complete) throw ReadError("truncated: the header is incomplete; copy the whole file");
  if (header.endian == __builtin_bswap32(kEndianMark))
    throw ReadError("written on a machine with the other byte order; run tidemark report on a machine of that kind");
  if (header.endian != kEndianMark) throw ReadError("the header is damaged (byte order mark)");
  if (header.version != kVersion)
    throw ReadError(
        fmt::format("written in region format version {}, this tidemark reads version {}; use the tidemark that "
                    "belongs to the libtidemark.so of that run",
                    header.version, kVersion));
  if (!describes_this_version(header))
    throw ReadError(
        "the header is damaged (record sizes), or written by an unreleased libtidemark.so; use the tidemark built "
        "with it");
}

Region Region::open(const std::string& path) { return parse(copy_used_part(path)); }

Region Region::parse(Bytes bytes) {
  Region region;
  region.bytes_ = std::move(bytes);
  size_t header_bytes = std::min(region.bytes_.size(), sizeof(Header));
  std::copy_n(region.bytes_.begin(), header_bytes, reinterpret_cast<std::byte*>(&region.header_));
  check_identity(region.header_, region.bytes_.size());
  region.read_directory();
  return region;
}

void Region::read_directory() {
  // A damaged page count costs nothing but its own truth: the directory and the file's size bound it.
  used_pages_ = std::min({header_.used_pages, header_.directory_bytes, kMaxRegionBytes / kPageBytes});
  uint64_t directory_end = saturating_add(header_.directory_offset, used_pages_);
  if (used_pages_ == 0 || header_.directory_offset < sizeof(Header) || header_.directory_offset > kMaxRegionBytes)
    throw ReadError("the header is damaged (page directory)");
  if (directory_end > bytes_.size())
    throw ReadError(fmt::format("truncated: {} of {} pages; copy the whole file", bytes_.size() / kPageBytes, used_pages_));
  kinds_.resize(used_pages_);
  std::memcpy(kinds_.data(), bytes_.data() + header_.directory_offset, used_pages_);
}

uint64_t Region::missing_pages() const {
  uint64_t whole = bytes_.size() / kPageBytes;
  return whole < used_pages_ ? used_pages_ - whole : 0;
}

bool Region::misses_counters() const {
  // A page that is in use may have no kind yet.
  auto may_count = [](uint8_t kind) {
    return PageKind(kind) == PageKind::kStacks || PageKind(kind) == PageKind::kShared || PageKind(kind) == PageKind::kFree;
  };
  return std::any_of(kinds_.end() - ptrdiff_t(missing_pages()), kinds_.end(), may_count);
}

PageKind Region::page_kind(uint64_t page) const { return page < kinds_.size() ? PageKind(kinds_[page]) : PageKind::kFree; }

template <typename T>
std::optional<T> Region::at(uint64_t offset) const {
  if (offset > bytes_.size() || bytes_.size() - offset < sizeof(T)) return std::nullopt;
  T value;
  std::memcpy(&value, bytes_.data() + offset, sizeof(T));
  return value;
}

template <typename T>
std::optional<T> Region::line(uint32_t id, PageKind kind) const {
  if (id < header_.first_line || id > kMaxLineId || id == 0) return std::nullopt;
  uint64_t offset = uint64_t(id - header_.first_line) * kLineBytes;
  if (page_kind(offset / kPageBytes) != kind || offset % kPageBytes + sizeof(T) > kPageBytes) return std::nullopt;
  return at<T>(offset);
}

std::optional<Node> Region::node(uint32_t id) const { return line<Node>(id, PageKind::kNodes); }

std::optional<Detail> Region::detail(uint32_t id) const { return line<Detail>(id, PageKind::kDetails); }

std::optional<StackEntry> Region::stack(uint32_t id) const {
  if (id < header_.first_line || id > kMaxLineId) return std::nullopt;
  uint32_t index = id - header_.first_line;
  if (index % kLinesPerPage >= kStacksPerPage || page_kind(index / kLinesPerPage) != PageKind::kStacks) return std::nullopt;
  return stack_at(index / kLinesPerPage, index % kLinesPerPage);
}

std::optional<StackEntry> Region::stack_at(uint64_t page, uint32_t slot) const {
  uint64_t page_offset = page * kPageBytes;
  auto record = at<StackRecord>(page_offset + slot * sizeof(StackRecord));
  if (!record || record->leaf_and_kind == 0) return std::nullopt;

  StackEntry entry{};
  entry.id = uint32_t(header_.first_line + page * kLinesPerPage + slot);
  entry.leaf = record->leaf_and_kind & kMaxLineId;
  entry.kind = StackKind(record->leaf_and_kind >> 24);
  entry.allocated_count = record->allocated_count;
  entry.allocated_bytes = record->allocated_bytes;
  entry.freed_count = record->freed_count;
  entry.freed_bytes = record->freed_bytes;
  entry.peak_live_bytes = record->peak_live_bytes;
  entry.detail = record->detail;
  entry.first_tick = record->first_tick;
  entry.last_tick = record->last_tick;
  entry.oldest = at<uint32_t>(page_offset + offsetof(StackPage, oldest) + slot * sizeof(uint32_t)).value_or(0);
  auto lost = at<uint32_t>(page_offset + offsetof(StackPage, deaths_lost) + slot / 32 * sizeof(uint32_t));
  entry.deaths_lost = lost.value_or(0) >> slot % 32 & 1;

  for (uint32_t stripe = 0; record->shared != 0 && stripe < kStripes; ++stripe) {
    auto shared = line<SharedCounters>(record->shared + stripe, PageKind::kShared);
    if (!shared) continue;
    entry.allocated_count = saturating_add(entry.allocated_count, shared->allocated_count);
    entry.allocated_bytes = saturating_add(entry.allocated_bytes, shared->allocated_bytes);
    entry.freed_count = saturating_add(entry.freed_count, shared->freed_count);
    entry.freed_bytes = saturating_add(entry.freed_bytes, shared->freed_bytes);
    entry.max_request_shared = std::max(entry.max_request_shared, shared->max_request);
    if (stripe == 0) entry.any_thread_shares = (shared->allocated_count | shared->freed_count) != 0;
  }
  return entry;
}

uint64_t Region::most_stacks() const { return uint64_t(std::count(kinds_.begin(), kinds_.end(), uint8_t(PageKind::kStacks))) * kStacksPerPage; }

template <typename T, typename Visit>
void Region::for_each(PageKind kind, Visit visit) const {
  for (uint64_t page = 0; page < kinds_.size(); ++page) {
    if (page_kind(page) != kind) continue;
    for (uint64_t offset = 0; offset + sizeof(T) <= kPageBytes; offset += sizeof(T))
      if (auto record = at<T>(page * kPageBytes + offset)) visit(*record);
  }
}

template <typename T, typename Committed>
std::vector<T> Region::all(PageKind kind, Committed committed) const {
  std::vector<T> records;
  for_each<T>(kind, [&](const T& record) {
    if (committed(record)) records.push_back(record);
  });
  return records;
}

std::vector<Module> Region::modules() const {
  return all<Module>(PageKind::kModules, [](const Module& module) { return module.state != 0 && module.start < module.end; });
}
std::vector<Thread> Region::threads() const {
  return all<Thread>(PageKind::kThreads, [](const Thread& thread) { return thread.tid != 0; });
}
std::vector<ProcessPoint> Region::points() const {
  return all<ProcessPoint>(PageKind::kPoints, [](const ProcessPoint& point) { return point.samples != 0; });
}
std::vector<Purge> Region::purges() const {
  return all<Purge>(PageKind::kPurges, [](const Purge& purge) { return purge.number != 0; });
}
std::vector<Event> Region::events() const {
  return all<Event>(PageKind::kEvents, [](const Event& event) { return event.kind != 0; });
}
std::vector<MarkRecord> Region::marks() const {
  return all<MarkRecord>(PageKind::kMarks, [](const MarkRecord& mark) { return mark.count != 0; });
}
std::vector<MappingStack> Region::mapping_stacks() const {
  return all<MappingStack>(PageKind::kMappingStacks, [](const MappingStack& stack) { return stack.leaf != 0; });
}

std::string Region::text(TextRef ref) const {
  uint64_t end = uint64_t(ref.offset) + ref.length;
  if (ref.length == 0 || end > bytes_.size()) return {};
  for (uint64_t page = ref.offset / kPageBytes; page <= (end - 1) / kPageBytes; ++page)
    if (page_kind(page) != PageKind::kText) return {};
  return std::string(reinterpret_cast<const char*>(bytes_.data()) + ref.offset, ref.length);
}

}  // namespace tidemark::region
