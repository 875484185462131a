#include "tests/unit/support/region_builder.h"

#include <algorithm>
#include <cstring>
#include <fstream>

namespace tidemark::test {

using namespace format;

namespace {

constexpr int64_t kStarted = 1'700'000'000'000'000'000;  // 2023-11-14 22:13:20 UTC

}  // namespace

RegionBuilder::RegionBuilder(uint64_t region_bytes, uint32_t first_line) : bytes_(region_bytes) {
  Header& h = header();
  std::memcpy(h.magic, kMagic, sizeof(kMagic));
  h.version = kVersion;
  h.header_bytes = sizeof(Header);
  h.endian = kEndianMark;
  h.page_bytes = kPageBytes;
  h.line_bytes = kLineBytes;
  h.ticks_per_second = kTicksPerSecond;
  h.region_bytes = region_bytes;
  h.directory_offset = kPageBytes;
  h.directory_bytes = region_bytes / kPageBytes;
  h.first_line = first_line;
  std::copy(std::begin(kRecords), std::end(kRecords), h.records);
  h.pid = 4711;
  h.ppid = 1;
  h.pid_start = 99;
  h.pid_namespace = 7;
  std::fill(std::begin(h.boot_id), std::end(h.boot_id), uint8_t(0xb0));
  h.started_realtime_ns = kStarted;
  h.started_monotonic_ns = 1'000'000'000;
  h.origin = uint32_t(Origin::kLaunched);
  // 100 s of life
  h.tick = 1600;
  h.heartbeat_realtime_ns = kStarted + 100'000'000'000;
  h.heartbeat_monotonic_ns = h.started_monotonic_ns + 100'000'000'000;
  h.threads_now = h.threads_peak = 1;

  page(PageKind::kHeader);
  for (uint64_t done = 0; done < h.directory_bytes; done += kPageBytes) page(PageKind::kDirectory);
  h.name = text("server");
  h.exe = text("/usr/bin/server");
  set_command({"server", "--port", "80"});
}

Header& RegionBuilder::header() { return *reinterpret_cast<Header*>(bytes_.data()); }

uint64_t RegionBuilder::page(PageKind kind) {
  uint64_t number = header().used_pages++;
  bytes_[header().directory_offset + number] = std::byte(kind);
  return number;
}

uint64_t RegionBuilder::place(PageKind kind, uint64_t bytes, uint64_t usable) {
  Room& room = rooms_[size_t(kind)];
  if (room.used + bytes > usable) room = {page(kind), 0};
  uint64_t offset = room.page * kPageBytes + room.used;
  room.used += bytes;
  return offset;
}

TextRef RegionBuilder::text(std::string_view text) {
  uint64_t offset = place(PageKind::kText, text.size());
  std::memcpy(bytes_.data() + offset, text.data(), text.size());
  return {uint32_t(offset), uint32_t(text.size())};
}

void RegionBuilder::set_command(const std::vector<std::string>& argv) {
  std::string joined;
  for (const std::string& argument : argv) joined += argument + '\0';
  header().cmdline = text(joined);
}

uint32_t RegionBuilder::group(const std::vector<uint64_t>& pcs, uint32_t caller, uint32_t generation) {
  uint32_t id = line_at(place(PageKind::kNodes, sizeof(Node)));
  Node& node = at<Node>(id);
  size_t padding = kFramesPerNode - pcs.size();
  for (size_t i = 0; i < kFramesPerNode; ++i) node.words[i] = i < padding ? pcs.front() : pcs[i - padding] | uint64_t{2} << 48;
  node.caller = caller;
  node.generation = generation;
  return id;
}

uint32_t RegionBuilder::lone(uint64_t pc, RuleKind rule, uint32_t caller, uint32_t generation) {
  uint32_t id = line_at(place(PageKind::kNodes, sizeof(Node)));
  Node& node = at<Node>(id);
  node.words[0] = pc | uint64_t{2} << 48;
  node.rule = rule;
  node.caller = caller;
  node.generation = generation;
  return id;
}

uint32_t RegionBuilder::path(const std::vector<uint64_t>& pcs, uint32_t end) {
  uint32_t caller = end;
  for (size_t left = pcs.size(); left > 0;) {
    size_t count = std::min<size_t>(left, kFramesPerNode);
    caller = group({pcs.begin() + long(left - count), pcs.begin() + long(left)}, caller);
    left -= count;
  }
  return caller;
}

uint32_t RegionBuilder::stack(uint32_t leaf, const StackRow& row) {
  uint64_t offset = place(PageKind::kStacks, sizeof(StackRecord), kStacksPerPage * sizeof(StackRecord));
  uint32_t id = line_at(offset);
  StackRecord& record = at<StackRecord>(id);
  record = {};
  record.allocated_count = row.allocated_count;
  record.allocated_bytes = row.allocated_bytes;
  record.freed_count = row.freed_count;
  record.freed_bytes = row.freed_bytes;
  record.peak_live_bytes = row.allocated_bytes - std::min(row.freed_bytes, row.allocated_bytes);
  record.leaf_and_kind = leaf | uint32_t(row.kind) << 24;
  record.first_tick = row.first_tick;
  record.last_tick = row.last_tick;
  StackPage& page = *reinterpret_cast<StackPage*>(bytes_.data() + offset / kPageBytes * kPageBytes);
  uint32_t line = offset % kPageBytes / sizeof(StackRecord);
  page.oldest[line] = row.oldest;
  if (row.deaths_lost) page.deaths_lost[line / 32] |= 1u << line % 32;
  return id;
}

uint32_t RegionBuilder::shared(uint32_t stack) {
  uint32_t id = line_at(place(PageKind::kShared, kStripes * sizeof(SharedCounters)));
  at<StackRecord>(stack).shared = id;
  return id;
}

uint32_t RegionBuilder::detail(uint32_t stack) {
  uint32_t id = line_at(place(PageKind::kDetails, sizeof(Detail)));
  at<Detail>(id).stack = stack;
  at<StackRecord>(stack).detail = id;
  return id;
}

void RegionBuilder::module(const ModuleRow& row) {
  uint64_t offset = place(PageKind::kModules, sizeof(Module));
  TextRef path = text(row.path);
  Module& module = *reinterpret_cast<Module*>(bytes_.data() + offset);
  module = {};
  module.start = row.start;
  module.end = row.end;
  module.bias = row.bias;
  module.generation = row.generation;
  module.path = path;
  module.file_bytes = row.file_bytes;
  module.mtime_ns = row.mtime_ns;
  module.build_id_bytes = uint32_t(row.build_id.size());
  std::memcpy(module.build_id, row.build_id.data(), std::min(row.build_id.size(), sizeof(module.build_id)));
  module.state = 1;
}

void RegionBuilder::thread(uint32_t tid) {
  Thread& thread = at<Thread>(line_at(place(PageKind::kThreads, sizeof(Thread))));
  thread = {};
  thread.tid = tid;
}

std::vector<std::byte> RegionBuilder::used() const {
  uint64_t pages = reinterpret_cast<const Header*>(bytes_.data())->used_pages;
  return {bytes_.begin(), bytes_.begin() + long(pages * kPageBytes)};
}

void RegionBuilder::save(const std::string& path) const {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes_.data()), long(bytes_.size()));
}

}  // namespace tidemark::test
