#include "analyzer/launch/options.h"

#include <algorithm>
#include <charconv>
#include <numeric>

#include "preload/format/options.h"
#include "preload/format/region.h"

namespace tidemark::launch {
namespace {

std::string underscored(std::string_view name) {
  std::string result(name);
  std::replace(result.begin(), result.end(), '-', '_');
  return result;
}

std::string lowered(std::string_view text) {
  std::string result(text);
  for (char& c : result)
    if (c >= 'A' && c <= 'Z') c = char(c - 'A' + 'a');
  return result;
}

// The number that `text` begins with; `unit` becomes what follows it.
std::optional<uint64_t> leading_number(std::string_view text, std::string_view& unit) {
  uint64_t number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{}) return std::nullopt;
  unit = text.substr(size_t(end - text.data()));
  return number;
}

std::optional<uint64_t> times(uint64_t number, uint64_t factor) {
  uint64_t product;
  if (__builtin_mul_overflow(number, factor, &product)) return std::nullopt;
  return product;
}

// Milliseconds; `bare` of them are one of a number without a unit.
std::optional<uint64_t> parse_time(std::string_view text, uint64_t bare) {
  std::string_view unit;
  auto number = leading_number(text, unit);
  if (!number) return std::nullopt;
  if (unit.empty()) return times(*number, bare);
  if (unit == "ms") return number;
  if (unit == "s") return times(*number, 1000);
  if (unit == "m") return times(*number, 60'000);
  if (unit == "h") return times(*number, 3'600'000);
  if (unit == "d") return times(*number, 86'400'000);
  return std::nullopt;
}

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
      diagonal = above;
    }
  }
  return row.back();
}

std::string quoted(std::string_view value) {
  if (value.find_first_of(":\"") == value.npos) return std::string(value);
  std::string result = "\"";
  for (char c : value) {
    if (c == '"' || c == '\\') result += '\\';
    result += c;
  }
  return result + '"';
}

// Takes one value off the front of `text`, up to the ':' behind it or the end. nullopt: a quote is not closed, or something
// follows it.
std::optional<std::string> take_value(std::string_view& text) {
  std::string value;
  size_t at = 0;
  if (text.empty() || text[0] != '"') {
    at = std::min(text.find(':'), text.size());
    value = text.substr(0, at);
  } else {
    for (at = 1; at < text.size() && text[at] != '"'; ++at) {
      if (text[at] == '\\' && at + 1 < text.size()) ++at;
      value += text[at];
    }
    if (at++ >= text.size()) return std::nullopt;
    if (at < text.size() && text[at] != ':') return std::nullopt;
  }
  text.remove_prefix(std::min(at + 1, text.size()));
  return value;
}

std::string check_range(const OptionRow& row, uint64_t bytes) {
  if (row.name != "region_size" && row.name != "child_region_size") return {};
  if (bytes >= format::kMinRegionBytes && bytes <= format::kMaxRegionBytes) return {};
  return std::string(row.name) + " must lie between 1M and 1G";
}

}  // namespace

const std::vector<OptionRow>& option_rows() {
  static const std::vector<OptionRow> rows = {
#define X(type, name, default_value, help) {OptionType::type, #name, default_value, help},
      TIDEMARK_OPTION_TABLE(X)
#undef X
  };
  return rows;
}

const OptionRow* find_option(std::string_view name) {
  std::string key = underscored(name);
  for (const OptionRow& row : option_rows())
    if (row.name == key) return &row;
  return nullptr;
}

std::string_view nearest_option(std::string_view name) {
  std::string key = underscored(name);
  std::string_view nearest;
  size_t best = std::max<size_t>(key.size() / 3, 1) + 1;  // further off than that is a guess, not a slip
  for (const OptionRow& row : option_rows()) {
    size_t distance = edit_distance(key, row.name);
    if (distance < best) best = distance, nearest = row.name;
  }
  return nearest;
}

std::optional<uint64_t> parse_size(std::string_view text) {
  std::string_view unit;
  auto number = leading_number(text, unit);
  if (!number) return std::nullopt;
  if (unit.empty()) return number;
  if (unit == "K" || unit == "k") return times(*number, uint64_t{1} << 10);
  if (unit == "M" || unit == "m") return times(*number, uint64_t{1} << 20);
  if (unit == "G" || unit == "g") return times(*number, uint64_t{1} << 30);
  return std::nullopt;
}

std::optional<bool> parse_bool(std::string_view text) {
  std::string word = lowered(text);
  if (word == "1" || word == "true" || word == "yes" || word == "on") return true;
  if (word == "0" || word == "false" || word == "no" || word == "off") return false;
  return std::nullopt;
}

std::string check_value(const OptionRow& row, std::string_view value) {
  std::string name(row.name), shown("\"");
  shown.append(value).append("\"");
  std::string_view unit;
  switch (row.type) {
    case OptionType::Bool:
      return parse_bool(value) ? "" : name + " takes 0 or 1, not " + shown;
    case OptionType::Count: {
      auto number = leading_number(value, unit);
      return number && unit.empty() ? "" : name + " takes a number, not " + shown;
    }
    case OptionType::Size: {
      auto bytes = parse_size(value);
      return bytes ? check_range(row, *bytes) : name + " takes a size such as 64M, not " + shown;
    }
    case OptionType::Millis:
      return parse_time(value, 1) ? "" : name + " takes a time such as 100ms or 2s, not " + shown;
    case OptionType::Seconds:
      return parse_time(value, 1000) ? "" : name + " takes a time such as 30s or 5m, not " + shown;
    case OptionType::Text:
      break;
  }
  if (row.name == "py_malloc" && value != "malloc" && value != "keep") return name + " takes malloc or keep, not " + shown;
  return {};
}

void OptionSet::set(std::string_view name, std::string_view value) {
  std::string key = underscored(name);
  for (Setting& setting : settings_)
    if (setting.name == key) {
      setting.value = value;
      return;
    }
  settings_.push_back({key, std::string(value)});
}

bool OptionSet::has(std::string_view name) const {
  return std::any_of(settings_.begin(), settings_.end(), [&](const Setting& setting) { return setting.name == name; });
}

std::string_view OptionSet::get(std::string_view name) const {
  for (const Setting& setting : settings_)
    if (setting.name == name) return setting.value;
  const OptionRow* row = find_option(name);
  return row ? row->default_value : std::string_view{};
}

std::string OptionSet::parse(std::string_view text) {
  while (!text.empty()) {
    if (text[0] == ':') {
      text.remove_prefix(1);
      continue;
    }
    size_t equals = text.find_first_of("=:");
    std::string name(text.substr(0, equals));
    if (equals == text.npos || text[equals] == ':') return "\"" + name + "\" has no value";
    text.remove_prefix(equals + 1);
    auto value = take_value(text);
    if (!value) return "the value of " + name + " has a quote that is not closed, or something behind it";
    const OptionRow* row = find_option(name);
    if (!row) return "unknown option \"" + name + "\"";
    std::string wrong = check_value(*row, *value);
    if (!wrong.empty()) return wrong;
    set(row->name, *value);
  }
  return {};
}

std::string OptionSet::text() const {
  std::string result;
  for (const Setting& setting : settings_) {
    if (!result.empty()) result += ':';
    result += setting.name + '=' + quoted(setting.value);
  }
  return result;
}

}  // namespace tidemark::launch
