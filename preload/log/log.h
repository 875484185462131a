// The log that the option `log` asks for: a shared object of its own (libtidemark-log.so), loaded by the shim's first line. So a process that
// does not ask for it gets no C++ runtime, and spdlog may throw and allocate as it likes.
#pragma once
#include <cstdint>

extern "C" {
// Appends one line with the time (UTC), the level "warning" and `name`. target: a file, which is rotated at max_bytes with three old ones kept, or
// "syslog". Opens and closes it. 0: done; else it could not be written. Any thread that may allocate.
__attribute__((visibility("default"))) int tidemark_log_line(const char* target, uint64_t max_bytes, const char* name, const char* line);
}
using TidemarkLogLine = decltype(&tidemark_log_line);
