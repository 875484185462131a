// A request to the keeper of a running process, by the mailbox in its region (preload/format/mailbox.h).
#pragma once
#include <cstdint>
#include <string>

#include "analyzer/control/process_region.h"
#include "preload/format/region.h"

namespace tidemark::control {

// The first page of a region, mapped shared. Closes it at the end.
class Box {
 public:
  // Throws ControlError where it cannot be opened for writing or is not the region of this process.
  Box(const std::string& path, int32_t pid);
  ~Box();
  Box(const Box&) = delete;
  Box& operator=(const Box&) = delete;

  const format::Header& header() const { return *header_; }

  // Sends the command, waits for the answer. Throws ControlError: the process refused, is stopped, ended, or has not answered for
  // `patience_ms`.
  format::Mailbox ask(format::Command command, const std::string& argument = "", int patience_ms = 30'000);

 private:
  bool is_hopeless(int64_t deadline);
  void take(int64_t deadline);
  void wait_for_answer(int64_t deadline);
  [[noreturn]] void give_up(const char* what);
  format::Mailbox& box() { return header_->mailbox; }

  int32_t pid_;
  StopDetector stop_detector_;
  bool stopped_ = false;
  format::Header* header_ = nullptr;
};

}  // namespace tidemark::control
