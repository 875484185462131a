#include "analyzer/symbolize/generated_code.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string_view>

#include "analyzer/symbolize/demangle.h"

namespace tidemark::symbolize {

namespace {

constexpr size_t kMostBytes = size_t(512) << 20;

using FilesRead = std::set<std::pair<dev_t, ino_t>>;

// Whether a file that was written last at this time may be the process's: its id may be another's since.
bool is_of_its_time(const timespec& written, const model::Process& process) {
  constexpr int64_t kGrace = 2;   // seconds: of a process that ended unseen the last sign of life is known
  bool over = process.ending != model::Ending::kRunning && !process.snapshot && !process.stopped && process.ended_ns != 0;
  return !over || written.tv_sec <= process.ended_ns / 1'000'000'000 + kGrace;
}

// Of a file that may be anybody's: /tmp is open to all. None, too, of one that was read already by another name. `kept`: where whoever keeps the region puts
// what belongs to it, perhaps as a copy made later. `too_new`: whether that alone speaks against it.
std::optional<std::string> read_own(const std::string& path, const model::Process& process, bool kept, FilesRead& files, bool& too_new) {
  int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
  if (fd < 0) return std::nullopt;
  struct stat status {};
  bool good = fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && size_t(status.st_size) <= kMostBytes &&
              (status.st_uid == process.uid || status.st_uid == 0 || status.st_uid == geteuid()) &&
              status.st_mtim.tv_sec >= process.started_ns / 1'000'000'000 - 1 && files.emplace(status.st_dev, status.st_ino).second;
  too_new = good && !kept && !is_of_its_time(status.st_mtim, process);
  good = good && !too_new;
  std::string bytes(good ? size_t(status.st_size) : 0, '\0');
  size_t used = 0;
  for (ssize_t n; used < bytes.size() && (n = read(fd, bytes.data() + used, bytes.size() - used)) > 0;) used += size_t(n);
  close(fd);
  bytes.resize(used);
  return good ? std::optional(std::move(bytes)) : std::nullopt;
}

// The region's own first.
std::vector<std::string> folders_of(const model::Process& process, const std::string& folder) {
  std::vector<std::string> folders{folder.empty() ? "." : folder, "/tmp"};
  if (process.pid_here) folders.push_back("/proc/" + std::to_string(*process.pid_here) + "/root/tmp");
  if (!process.cwd.empty()) folders.push_back(process.cwd);
  const char* home = std::getenv("HOME");
  std::error_code error;
  if (home != nullptr)   // where the JVM's agent, for one, puts each run into a folder of its own
    for (std::filesystem::directory_iterator entry(std::string(home) + "/.debug/jit", error), end; !error && entry != end; entry.increment(error))
      folders.push_back(entry->path());
  return folders;
}

class Cursor {
 public:
  Cursor(const std::string& bytes, size_t at, size_t end) : bytes_(bytes), at_(at), end_(end) {}
  template <class T>
  bool take(T& value) {
    if (end_ - at_ < sizeof(T)) return false;
    std::memcpy(&value, bytes_.data() + at_, sizeof(T));
    at_ += sizeof(T);
    return true;
  }
  bool take(std::string& text) {
    size_t zero = bytes_.find('\0', at_);
    if (zero >= end_) return false;
    text = bytes_.substr(at_, zero - at_);
    at_ = zero + 1;
    return true;
  }

 private:
  const std::string& bytes_;
  size_t at_, end_;
};

// "@" belongs to a name here, unlike in a symbol table.
std::string readable_name(std::string name) {
  return name.starts_with("_Z") || name.starts_with("_R") ? demangle(name.c_str()) : name;
}

struct Load {
  uint32_t pid, tid;
  uint64_t vma, address, bytes, index;
};

constexpr uint32_t kJitMagic = 0x4A695444;   // "JiTD", as a machine of this byte order writes it
enum RecordId : uint32_t { kCodeLoad = 0, kCodeMove = 1, kDebugInfo = 2, kCodeClose = 3 };

struct Line {
  uint64_t start;  // up to the next one
  std::string file;
  uint32_t line;
};

std::vector<Line> lines_in(Cursor record) {
  std::vector<Line> lines;
  uint64_t address, count;
  if (!record.take(address) || !record.take(count)) return lines;
  std::string file, last;
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t start;
    int32_t line, discriminator;
    if (!record.take(start) || !record.take(line) || !record.take(discriminator) || !record.take(file)) break;
    if (file == "\xff") file = last;   // as before
    last = file;
    lines.push_back({start, file, uint32_t(std::max(line, 0))});
  }
  std::stable_sort(lines.begin(), lines.end(), [](auto& a, auto& b) { return a.start < b.start; });
  return lines;
}

}  // namespace

GeneratedCode GeneratedCode::of(const model::Process& process, const std::string& folder) {
  GeneratedCode code;
  std::string pid = std::to_string(process.pid);
  FilesRead files;
  std::vector<std::string> folders = folders_of(process, folder);
  for (const std::string& place : folders) {
    for (const std::string& name : {"perf-" + pid + ".map", "jit-" + pid + ".dump"}) {
      bool too_new = false;
      auto bytes = read_own(place + "/" + name, process, place == folders.front(), files, too_new);
      if (too_new) code.too_new_.push_back(place + "/" + name);
      if (!bytes) continue;
      name.ends_with(".map") ? code.add_perf_map(*bytes) : code.add_jitdump(*bytes);
    }
  }
  code.finish();
  return code;
}

void GeneratedCode::add_perf_map(const std::string& text) {
  for (size_t at = 0, end; at < text.size(); at = end + 1) {
    end = std::min(text.find('\n', at), text.size());
    const char* stop = text.data() + end;
    uint64_t start = 0, bytes = 0;
    const char* p = text.data() + at;
    if (stop - p > 2 && p[0] == '0' && p[1] == 'x') p += 2;   // some writers
    auto first = std::from_chars(p, stop, start, 16);
    if (first.ec != std::errc() || first.ptr == stop || *first.ptr != ' ') continue;
    p = first.ptr + 1;
    if (stop - p > 2 && p[0] == '0' && p[1] == 'x') p += 2;
    auto second = std::from_chars(p, stop, bytes, 16);
    if (second.ec != std::errc() || second.ptr == stop || *second.ptr != ' ' || bytes == 0 || start + bytes < start) continue;
    add(start, start + bytes, {readable_name(std::string(second.ptr + 1, stop)), "", 0, false});
  }
}

void GeneratedCode::add_jitdump(const std::string& bytes) {
  uint32_t magic = 0, version = 0, header_bytes = 0;
  Cursor header(bytes, 0, bytes.size());
  if (!header.take(magic) || magic != kJitMagic || !header.take(version) || !header.take(header_bytes)) return;
  std::vector<Line> lines;   // of the function that is described next
  for (size_t at = header_bytes; at <= bytes.size();) {
    uint32_t id, record_bytes;
    uint64_t time;
    Cursor prefix(bytes, at, bytes.size());
    if (!prefix.take(id) || !prefix.take(record_bytes) || !prefix.take(time)) return;
    if (record_bytes < 16 || record_bytes > bytes.size() - at) return;
    Cursor record(bytes, at + 16, at + record_bytes);
    at += record_bytes;
    Load load;
    if (id == kDebugInfo) {
      lines = lines_in(record);
    } else if (id == kCodeLoad) {
      std::string name;
      if (!record.take(load) || !record.take(name) || load.address + load.bytes < load.address) return;
      uint64_t end = load.address + load.bytes;
      name = readable_name(std::move(name));
      add(load.address, end, {name, "", 0, false});
      for (size_t i = 0; i < lines.size(); ++i) {
        uint64_t until = i + 1 < lines.size() ? std::min(lines[i + 1].start, end) : end;
        if (lines[i].start >= load.address && lines[i].start < until)
          add(lines[i].start, until, {name, lines[i].file, lines[i].line, false});
      }
      lines.clear();
    } else if (id == kCodeMove) {
      uint64_t from;
      Load where;   // vma, then from, to, size, index
      if (!record.take(where.pid) || !record.take(where.tid) || !record.take(where.vma) || !record.take(from) || !record.take(where.address) ||
          !record.take(where.bytes) || where.address + where.bytes < where.address)
        return;
      auto old = latest_at_.find(from);
      if (old != latest_at_.end()) add(where.address, where.address + where.bytes, functions_[old->second].frame);
    }
  }
}

void GeneratedCode::add(uint64_t start, uint64_t end, SourceFrame frame) {
  latest_at_[start] = functions_.size();
  functions_.push_back({start, end, std::move(frame)});
}

// What later functions cover is kept as ranges, and those that a function reaches become one with it: each is met once, not by
// every function around it.
void GeneratedCode::finish() {
  std::map<uint64_t, uint64_t> covered;   // end by start; they do not overlap
  pieces_.clear();
  for (size_t i = functions_.size(); i-- > 0;) {   // the latest first
    uint64_t start = functions_[i].start, end = functions_[i].end, at = start;
    auto range = covered.upper_bound(start);
    if (range != covered.begin() && std::prev(range)->second > start) --range;
    while (range != covered.end() && range->first < end) {
      if (at < range->first) pieces_.push_back({at, range->first, i});
      start = std::min(start, range->first);
      at = range->second;
      range = covered.erase(range);
    }
    if (at < end) pieces_.push_back({at, end, i});
    if (start < std::max(at, end)) covered.emplace_hint(range, start, std::max(at, end));
  }
  std::sort(pieces_.begin(), pieces_.end(), [](const Piece& a, const Piece& b) { return a.start < b.start; });
}

const SourceFrame* GeneratedCode::find(uint64_t address) const {
  auto after = std::upper_bound(pieces_.begin(), pieces_.end(), address, [](uint64_t value, const Piece& piece) { return value < piece.start; });
  if (after == pieces_.begin() || address >= std::prev(after)->end) return nullptr;
  return &functions_[std::prev(after)->function].frame;
}

}  // namespace tidemark::symbolize
