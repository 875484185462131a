// Caches that a person has named: a rules file (option rules=FILE, kept in the region) says by which functions blocks of a cache are allocated.
//
//   # a comment
//   cache NAME match=GLOB [match=GLOB…] [ttl=SECONDS]
//
// A stack belongs to the first cache one of whose globs (fnmatch(3)) matches any of its functions: the name as the report shows it, or that
// without parameters.
#pragma once
#include <optional>
#include <string>
#include <vector>

namespace tidemark::model {

struct CacheRule {
  std::string name;
  std::vector<std::string> globs;
  std::optional<double> ttl_s;  // none: Options::cache_duration of the run

  bool matches(const std::string& function) const;
};

struct CacheRules {
  std::vector<CacheRule> rules;
  std::vector<std::string> errors;  // one line each, with the line's number; the other rules hold

  static CacheRules parse(const std::string& text);
};

}  // namespace tidemark::model
