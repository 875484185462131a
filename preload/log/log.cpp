#include "preload/log/log.h"

#include <spdlog/formatter.h>
#include <spdlog/logger.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/rotating_file_sink.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <memory>
#include <string>

namespace {

constexpr size_t kOldFiles = 3;

// In UTC, and not by libc: its gmtime_r, too, takes the lock of its time zones, which a fork may have copied while a thread of the program held it.
struct Time {
  std::chrono::year_month_day day;
  std::chrono::hh_mm_ss<std::chrono::milliseconds> clock;

  explicit Time(spdlog::log_clock::time_point when)
      : Time(std::chrono::floor<std::chrono::milliseconds>(when), std::chrono::floor<std::chrono::days>(when)) {}

 private:
  Time(std::chrono::sys_time<std::chrono::milliseconds> when, std::chrono::sys_days midnight) : day(midnight), clock(when - midnight) {}
};

// What the lines of a file have before the message.
std::string file_heading(const Time& t, pid_t pid) {
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z tidemark[{}]", int(t.day.year()), unsigned(t.day.month()), unsigned(t.day.day()),
                     t.clock.hours().count(), t.clock.minutes().count(), t.clock.seconds().count(), t.clock.subseconds().count(), pid);
}
// The same for the daemon, which adds the time at which it comes: one of ours would have to be local (RFC 3164 §4.1.2; §4.3.2 allows none).
std::string syslog_heading(const Time&, pid_t pid) { return fmt::format("<{}>tidemark[{}]:", LOG_DAEMON | LOG_WARNING, pid); }

class Lines : public spdlog::formatter {
 public:
  using Heading = std::string (*)(const Time&, pid_t);
  Lines(Heading heading, const char* end) : heading_(heading), end_(end) {}
  void format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& line) override {
    auto level = spdlog::level::to_string_view(message.level);
    auto view = [](spdlog::string_view_t text) { return std::string_view(text.data(), text.size()); };
    fmt::format_to(std::back_inserter(line), "{} {} {}: {}{}", heading_(Time(message.time), getpid()), view(message.logger_name), view(level),
                   view(message.payload), end_);
  }
  std::unique_ptr<formatter> clone() const override { return std::make_unique<Lines>(heading_, end_); }

 private:
  Heading heading_;
  const char* end_;
};

// Straight to the daemon's socket (RFC 3164, as libc writes it there). libc's syslog has one name and one connection for the whole process, and they are
// the program's.
class SyslogSink : public spdlog::sinks::base_sink<spdlog::details::null_mutex> {
 public:
  SyslogSink() : socket_(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    formatter_ = std::make_unique<Lines>(syslog_heading, "");   // a datagram is a line
  }
  ~SyslogSink() override { close(socket_); }

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    sockaddr_un daemon{AF_UNIX, _PATH_LOG};
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    if (sendto(socket_, line.data(), line.size(), MSG_NOSIGNAL | MSG_DONTWAIT, reinterpret_cast<const sockaddr*>(&daemon), sizeof(daemon)) < 0)
      throw spdlog::spdlog_ex(_PATH_LOG, errno);
  }
  void flush_() override {}

 private:
  int socket_;
};

spdlog::sink_ptr make_sink(const char* target, uint64_t max_bytes) {
  if (std::strcmp(target, "syslog") == 0) return std::make_shared<SyslogSink>();
  auto file = std::make_shared<spdlog::sinks::rotating_file_sink_st>(target, max_bytes, kOldFiles);
  file->set_formatter(std::make_unique<Lines>(file_heading, "\n"));
  return file;
}

}  // namespace

int tidemark_log_line(const char* target, uint64_t max_bytes, const char* name, const char* line) try {
  bool failed = false;
  spdlog::logger logger(name, make_sink(target, max_bytes));
  logger.set_error_handler([&](const std::string&) { failed = true; });   // by itself spdlog would write to standard error
  logger.warn("{}", line);
  logger.flush();
  return failed;
} catch (const std::exception&) {
  return 1;
}
