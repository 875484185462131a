// The shim's options as `tidemark run` handles them: rows of the shared option table, checked values, and the text form that
// TIDEMARK_OPTIONS carries.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tidemark::launch {

enum class OptionType { Bool, Count, Size, Millis, Seconds, Text };  // the names that the table's rows use

struct OptionRow {
  OptionType type;
  std::string_view name, default_value, help;
};

// All rows of preload/format/options.h, in its order.
const std::vector<OptionRow>& option_rows();

// The row of that name; dashes count as underscores. nullptr: no such option.
const OptionRow* find_option(std::string_view name);

// The known name that `name` is most likely a slip of; empty when none is near.
std::string_view nearest_option(std::string_view name);

// Why `value` is none of the row's type or range; empty when it is one.
std::string check_value(const OptionRow& row, std::string_view value);

// A size such as "64M" in bytes; nullopt when it is none or overflows.
std::optional<uint64_t> parse_size(std::string_view text);
// A boolean as the table's comment lists them.
std::optional<bool> parse_bool(std::string_view text);

// Names and values in the order given, each name at most once.
class OptionSet {
 public:
  void set(std::string_view name, std::string_view value);
  // The value given, or the table's default; `name` must be a row.
  std::string_view get(std::string_view name) const;
  bool has(std::string_view name) const;

  // Adds what a TIDEMARK_OPTIONS text holds. Returns what is wrong with it, or an empty string; the set is then unusable.
  std::string parse(std::string_view text);
  // The text for TIDEMARK_OPTIONS: parse() of it gives the same set.
  std::string text() const;

 private:
  struct Setting {
    std::string name, value;
  };
  std::vector<Setting> settings_;
};

}  // namespace tidemark::launch
