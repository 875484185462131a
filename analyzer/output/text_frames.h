// Call stacks as lines of text.
#pragma once
#include <ostream>
#include <string>
#include <vector>

#include "analyzer/model/profile.h"
#include "analyzer/symbolize/symbolizer.h"

namespace tidemark::output {

class FrameWriter {
 public:
  // Unless `full`, start-up frames, the middle of very deep stacks and the rest of very long names are left out.
  FrameWriter(const model::Profile& profile, symbolize::Symbolizer& symbols, bool full);

  void write(std::ostream& out, const model::CallStack& stack);

  bool abbreviated() const { return abbreviated_; }  // in any stack so far

 private:
  struct Line {
    std::string function, place;
    uint32_t repeats = 1;
    bool start_up = false;  // how every thread begins
    bool operator==(const Line& other) const { return function == other.function && place == other.place; }
  };
  std::vector<Line> lines_of(const std::vector<model::Frame>& frames);
  Line line_of(const model::Frame& frame, const symbolize::SourceFrame& source) const;
  std::string name_of(const model::Frame& frame, const symbolize::SourceFrame& source) const;
  bool is_start_up(const model::Frame& frame, const symbolize::SourceFrame& source) const;
  bool ends_early(const std::vector<model::Frame>& frames, const std::vector<Line>& lines) const;
  size_t drop_start_up(std::vector<Line>& lines) const;
  void write_lines(std::ostream& out, const std::vector<Line>& lines);

  const model::Profile& profile_;
  symbolize::Symbolizer& symbols_;
  bool full_;
  bool abbreviated_ = false;
};

}  // namespace tidemark::output
