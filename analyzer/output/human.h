// Numbers and times for a person.
#pragma once
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "analyzer/model/process.h"
#include "analyzer/output/printable.h"

namespace tidemark::output {

std::string human_bytes(uint64_t bytes);                                          // 1.5 MiB
std::string exact_bytes(uint64_t bytes);                                          // 1.5 MiB (1,572,864 bytes)
std::string human_change(uint64_t now, uint64_t then);                            // +1.5 MiB
std::string human_count(uint64_t count);                                          // 1,572,864
std::string human_duration(double seconds);                                       // 2 h 13 min
std::string human_share(uint64_t part, uint64_t whole);                           // 12.3 %
std::string local_time(int64_t realtime_ns);                                      // 2025-03-01 02:59:13 +0100
std::string iso_time(int64_t realtime_ns);                                        // 2025-03-01T01:59:13.123Z
std::string signal_name(int32_t signal);                                          // SIGSEGV
std::string plural(uint64_t count, std::string_view one, std::string_view many);  // 1 block, 2 blocks

// A field of fixed size that need not end with a zero byte.
template <size_t N>
std::string bounded_text(const char (&field)[N]) {
  return std::string(field, strnlen(field, N));
}
std::string refusal_text(uint32_t reason);  // of format::Refusal

// Behind a duration, how long before the report's moment something was.
const char* before_what(const model::Process& process);

}  // namespace tidemark::output
