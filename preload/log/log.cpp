#include "preload/log/log.h"

#include <spdlog/logger.h>
#include <spdlog/sinks/rotating_file_sink.h>
#include <spdlog/sinks/syslog_sink.h>

#include <cstring>
#include <memory>

namespace {

constexpr size_t kOldFiles = 3;

spdlog::sink_ptr make_sink(const char* target, uint64_t max_bytes) {
  if (std::strcmp(target, "syslog") == 0) return std::make_shared<spdlog::sinks::syslog_sink_st>("tidemark", LOG_PID, LOG_DAEMON, true);
  return std::make_shared<spdlog::sinks::rotating_file_sink_st>(target, max_bytes, kOldFiles);
}

}  // namespace

int tidemark_log_line(const char* target, uint64_t max_bytes, const char* name, const char* line) try {
  bool failed = false;
  spdlog::logger logger(name, make_sink(target, max_bytes));
  logger.set_error_handler([&](const std::string&) { failed = true; });   // by itself spdlog would write to standard error
  logger.set_pattern("%Y-%m-%dT%H:%M:%S.%e%z tidemark[%P] %n %l: %v");
  logger.warn("{}", line);
  logger.flush();
  return failed;
} catch (const std::exception&) {
  return 1;
}
