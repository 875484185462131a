#include "analyzer/output/text_frames.h"

#include <fmt/format.h>
#include <fmt/ostream.h>

#include <algorithm>
#include <string_view>

#include "analyzer/output/human.h"

namespace tidemark::output {

using model::CallStack;
using model::Frame;
using symbolize::SourceFrame;

namespace {

constexpr size_t kInnerLines = 20, kOuterLines = 6;  // of a stack that is too long to show
constexpr size_t kLongestName = 120;
constexpr size_t kNameColumn = 44;

constexpr std::string_view kStartUp[] = {"_start",
                                         "__libc_start_main",
                                         "__libc_start_main_impl",
                                         "__libc_start_call_main",
                                         "start_thread",
                                         "clone3",
                                         "__clone3",
                                         "clone",
                                         "__clone"};
constexpr std::string_view kRustStartUp[] = {"std::rt::lang_start",
                                             "std::panicking::catch_unwind",
                                             "std::panic::catch_unwind",
                                             "std::sys::backtrace::__rust_begin_short_backtrace",
                                             "std::sys_common::backtrace::__rust_begin_short_backtrace",
                                             "<&dyn core::ops::function::Fn<(), Output = i32>",
                                             "core::ops::function::FnOnce::call_once",
                                             "<fn() as core::ops::function::FnOnce<()>>::call_once"};

// To the column of places; counted in characters, not bytes.
size_t padding(const std::string& name) {
  size_t width = 0;
  for (unsigned char byte : name) width += (byte & 0xc0) != 0x80;
  return width < kNameColumn ? kNameColumn - width + 2 : 2;
}

std::string cut(const std::string& name) {
  if (name.size() <= kLongestName) return name;
  size_t length = kLongestName;
  while (length > 0 && (static_cast<unsigned char>(name[length]) & 0xc0) == 0x80) --length;  // not inside a UTF-8 character
  return name.substr(0, length) + "…";
}

}  // namespace

FrameWriter::FrameWriter(const model::Profile& profile, symbolize::Symbolizer& symbols, bool full)
    : profile_(profile), symbols_(symbols), full_(full) {}

std::string FrameWriter::name_of(const Frame& frame, const SourceFrame& source) const {
  if (!source.function.empty()) return source.function;
  if (frame.module == model::kNoModule) return fmt::format("{:#x} (no module: generated code?)", frame.offset);
  const model::ModuleFile& file = profile_.modules.files()[frame.module];
  std::string name = file.base_name();
  return fmt::format("{}+{:#x}", name.empty() ? "(unnamed module)" : name, frame.offset);
}

bool FrameWriter::is_start_up(const Frame& frame, const SourceFrame& source) const {
  if (std::find(std::begin(kStartUp), std::end(kStartUp), source.function) != std::end(kStartUp)) return true;
  for (std::string_view prefix : kRustStartUp)
    if (source.function.starts_with(prefix)) return true;
  // Debian's libc has no names for these.
  return source.function.empty() && frame.module != model::kNoModule &&
         profile_.modules.files()[frame.module].is_c_library();
}

FrameWriter::Line FrameWriter::line_of(const Frame& frame, const SourceFrame& source) const {
  Line line;
  std::string name = name_of(frame, source);
  line.function = printable(full_ ? name : cut(name));
  if (!source.file.empty()) {
    line.place = printable(source.line != 0 ? fmt::format("{}:{}", source.file, source.line) : source.file);
  } else if (!source.function.empty() && frame.module != model::kNoModule) {
    line.place = printable(fmt::format("({})", profile_.modules.files()[frame.module].base_name()));
  } else if (!source.function.empty() && !frame.signal) {
    line.place = "(generated code)";
  }
  if (source.inlined) line.place += line.place.empty() ? "[inlined]" : " [inlined]";
  if (frame.guessed) line.place += line.place.empty() ? "[guessed]" : " [guessed]";
  line.start_up = is_start_up(frame, source);
  return line;
}

std::vector<FrameWriter::Line> FrameWriter::lines_of(const std::vector<Frame>& frames) {
  std::vector<Line> lines;
  for (const Frame& frame : frames) {
    for (const SourceFrame& source : symbols_.find(frame)) {
      Line line = line_of(frame, source);
      if (!full_ && !lines.empty() && lines.back() == line) {
        ++lines.back().repeats;
      } else {
        lines.push_back(std::move(line));
      }
    }
  }
  return lines;
}

// Returns how many lines that were.
size_t FrameWriter::drop_start_up(std::vector<Line>& lines) const {
  size_t keep = lines.size();
  auto begins_rust = [&](size_t i) {
    return lines[i].function == "main" && lines[i - 1].function.starts_with("std::rt::lang_start");
  };
  while (keep > 1 && (lines[keep - 1].start_up || begins_rust(keep - 1))) --keep;
  size_t dropped = lines.size() - keep;
  lines.resize(keep);
  return dropped;
}

void FrameWriter::write_lines(std::ostream& out, const std::vector<Line>& lines) {
  bool too_long = !full_ && lines.size() > kInnerLines + kOuterLines + 2;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (too_long && i == kInnerLines) {
      size_t left_out = lines.size() - kInnerLines - kOuterLines;
      fmt::print(out, "      … {} more frames\n", left_out);
      abbreviated_ = true;
      i += left_out;
    }
    const Line& line = lines[i];
    fmt::print(out, "      {}", line.function);
    if (!line.place.empty()) fmt::print(out, "{:{}}{}", "", padding(line.function), line.place);
    if (line.repeats > 1) fmt::print(out, "  (× {}: it calls itself)", line.repeats);
    fmt::print(out, "\n");
  }
}

// Every thread begins in a module, and in code that has unwind data, or is known.
bool FrameWriter::ends_early(const std::vector<Frame>& frames, const std::vector<Line>& lines) const {
  if (frames.empty()) return false;
  return frames.back().module == model::kNoModule || (frames.back().guessed && !lines.empty() && !lines.back().start_up);
}

void FrameWriter::write(std::ostream& out, const CallStack& stack) {
  if (stack.overflow) {
    fmt::print(out, "      (all call stacks that found the stack table full)\n");
    return;
  }
  std::vector<Frame> frames = profile_.frames(stack);
  std::vector<Line> lines = lines_of(frames);
  bool whole = !stack.truncated && !stack.damaged;
  bool more = whole && ends_early(frames, lines);
  if (!full_ && whole && drop_start_up(lines) != 0) abbreviated_ = true;
  write_lines(out, lines);
  if (stack.truncated) fmt::print(out, "      … outer frames were not kept: the stack is too deep or could not be followed\n");
  if (more) fmt::print(out, "      … its callers are not known: code without unwind data that keeps no frame pointer\n");
  if (stack.damaged) fmt::print(out, "      … further frames cannot be read: the file is damaged\n");
  if (lines.empty() && whole) fmt::print(out, "      (no frames)\n");
}

}  // namespace tidemark::output
