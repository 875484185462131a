#include "analyzer/output/human.h"

#include <fmt/format.h>
#include <string.h>
#include <time.h>

#include <cmath>

#include "preload/format/ledger.h"

namespace tidemark::output {

namespace {

constexpr int64_t kSecond = 1'000'000'000;

struct Split {
  time_t seconds;
  int64_t nanoseconds;
};

Split split(int64_t ns) {
  int64_t seconds = ns / kSecond, rest = ns % kSecond;
  return rest < 0 ? Split{time_t(seconds - 1), rest + kSecond} : Split{time_t(seconds), rest};
}

std::string two_units(uint64_t value, uint64_t per_big, const char* big, const char* small) {
  uint64_t rest = value % per_big;
  std::string text = fmt::format("{} {}", value / per_big, big);
  return rest == 0 ? text : fmt::format("{} {} {}", text, rest, small);
}

}  // namespace

std::string human_bytes(uint64_t bytes) {
  if (bytes < 1024) return plural(bytes, "byte", "bytes");
  static constexpr const char* kUnits[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double value = double(bytes) / 1024;
  size_t unit = 0;
  while (value >= 1023.95 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  return fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string exact_bytes(uint64_t bytes) {
  return bytes < 1024 ? human_bytes(bytes) : fmt::format("{} ({} bytes)", human_bytes(bytes), human_count(bytes));
}

std::string human_change(uint64_t now, uint64_t then) {
  return now >= then ? fmt::format("+{}", human_bytes(now - then)) : fmt::format("-{}", human_bytes(then - now));
}

std::string human_count(uint64_t count) {
  std::string digits = std::to_string(count);
  for (size_t place = digits.size(); place > 3; place -= 3) digits.insert(place - 3, 1, ',');
  return digits;
}

std::string human_duration(double seconds) {
  if (!(seconds > 0)) return "0 s";
  if (seconds < 0.9995) return fmt::format("{:.0f} ms", std::ceil(seconds * 1000));
  if (seconds < 9.95) return fmt::format("{:.1f} s", seconds);
  uint64_t whole = uint64_t(std::llround(std::min(seconds, 1e15)));
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return two_units(whole, 60, "min", "s");
  if (whole < 86400) return two_units(whole / 60, 60, "h", "min");
  return two_units(whole / 3600, 24, "d", "h");
}

std::string human_share(uint64_t part, uint64_t whole) {
  if (whole == 0) return "0 %";
  double percent = 100.0 * double(part) / double(whole);
  if (part != 0 && percent < 0.05) return "< 0.1 %";
  if (part != whole && percent > 99.95) return "> 99.9 %";
  return part == whole ? "100 %" : fmt::format("{:.1f} %", percent);
}

std::string local_time(int64_t realtime_ns) {
  time_t seconds = split(realtime_ns).seconds;
  tm parts{};
  char text[64];
  if (localtime_r(&seconds, &parts) == nullptr || strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S %z", &parts) == 0)
    return "at an unknown time";
  return text;
}

std::string iso_time(int64_t realtime_ns) {
  Split time = split(realtime_ns);
  tm parts{};
  char text[64];
  if (gmtime_r(&time.seconds, &parts) == nullptr || strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &parts) == 0) return "";
  return fmt::format("{}.{:03}Z", text, time.nanoseconds / 1'000'000);
}

std::string signal_name(int32_t signal) {
  const char* name = sigabbrev_np(signal);
  return name ? std::string("SIG") + name : fmt::format("SIG{}", signal);
}

std::string plural(uint64_t count, std::string_view one, std::string_view many) {
  return fmt::format("{} {}", human_count(count), count == 1 ? one : many);
}

std::string refusal_text(uint32_t reason) {
  static constexpr const char* kTexts[] = {
#define X(enumerator, text) text,
      TIDEMARK_REFUSALS(X)
#undef X
  };
  return reason < std::size(kTexts) ? kTexts[reason] : fmt::format("reason {}", reason);
}

const char* before_what(const model::Process& process) {
  if (process.runs_now()) return "ago";
  return process.ending == model::Ending::kRunning ? "before that" : "before the end";
}

}  // namespace tidemark::output
