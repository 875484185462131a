#include "analyzer/model/cache_rules.h"

#include <fmt/format.h>
#include <fnmatch.h>

#include <charconv>
#include <sstream>

namespace tidemark::model {

namespace {

std::optional<double> parse_seconds(const std::string& text) {
  uint64_t seconds = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return double(seconds);
}

// What is wrong with the line; empty: nothing.
std::string parse_rule(std::istringstream& words, CacheRule& rule) {
  if (!(words >> rule.name) || rule.name.find('=') != std::string::npos) return "a name is missing behind `cache`";
  for (std::string word; words >> word;) {
    if (word.compare(0, 6, "match=") == 0 && word.size() > 6) {
      rule.globs.push_back(word.substr(6));
    } else if (word.compare(0, 4, "ttl=") == 0) {
      if (!(rule.ttl_s = parse_seconds(word.substr(4)))) return "ttl takes seconds, not \"" + word.substr(4) + '"';
    } else {
      return "unknown: " + word;
    }
  }
  return rule.globs.empty() ? "match=GLOB is missing" : "";
}

}  // namespace

bool CacheRule::matches(const std::string& function) const {
  std::string bare = function.substr(0, function.find('('));
  for (const std::string& glob : globs)
    if (fnmatch(glob.c_str(), function.c_str(), 0) == 0 || fnmatch(glob.c_str(), bare.c_str(), 0) == 0) return true;
  return false;
}

CacheRules CacheRules::parse(const std::string& text) {
  CacheRules result;
  std::istringstream lines(text);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    std::istringstream words(line.substr(0, line.find('#')));
    std::string keyword;
    if (!(words >> keyword)) continue;
    CacheRule rule;
    std::string error = keyword == "cache" ? parse_rule(words, rule) : "a line begins with `cache`";
    if (error.empty()) result.rules.push_back(rule);
    else result.errors.push_back(fmt::format("line {}: {}", number, error));
  }
  return result;
}

}  // namespace tidemark::model
