#include "preload/log/log.h"

#include <spdlog/logger.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/rotating_file_sink.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

#include <cstring>
#include <memory>

namespace {

constexpr size_t kOldFiles = 3;

// Day of the month, a space before a single digit: spdlog's own flag writes a zero.
class Day : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg&, const std::tm& time, spdlog::memory_buf_t& line) override { fmt::format_to(std::back_inserter(line), "{:2}", time.tm_mday); }
  std::unique_ptr<custom_flag_formatter> clone() const override { return std::make_unique<Day>(); }
};

// Straight to the daemon's socket (RFC 3164, as libc writes it there). libc's syslog has one name and one connection for the whole process, and they are
// the program's.
class SyslogSink : public spdlog::sinks::base_sink<spdlog::details::null_mutex> {
 public:
  SyslogSink() : socket_(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    set_pattern_(fmt::format("<{}>%b %* %H:%M:%S tidemark[%P]: %n %l: %v", LOG_DAEMON | LOG_WARNING));
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
  void set_pattern_(const std::string& pattern) override {
    auto formatter = std::make_unique<spdlog::pattern_formatter>(spdlog::pattern_time_type::local, "");   // a datagram is a line
    formatter->add_flag<Day>('*').set_pattern(pattern);
    formatter_ = std::move(formatter);
  }

 private:
  int socket_;
};

spdlog::sink_ptr make_sink(const char* target, uint64_t max_bytes) {
  if (std::strcmp(target, "syslog") == 0) return std::make_shared<SyslogSink>();
  auto file = std::make_shared<spdlog::sinks::rotating_file_sink_st>(target, max_bytes, kOldFiles);
  file->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z tidemark[%P] %n %l: %v");
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
