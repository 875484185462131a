#include "preload/keeper/options.h"

#include <cstring>

namespace tidemark::keeper {
namespace {

bool is(const char* text, const char* word) { return strcasecmp(text, word) == 0; }

bool parse(const char* text, Bool& out) {
  if (is(text, "1") || is(text, "true") || is(text, "yes") || is(text, "on")) return out = true, true;
  if (is(text, "0") || is(text, "false") || is(text, "no") || is(text, "off")) return out = false, true;
  return false;
}

// A number; `rest` is left at what follows.
bool number(const char* text, uint64_t& out, const char** rest) {
  if (*text < '0' || *text > '9') return false;
  uint64_t n = 0;
  for (; *text >= '0' && *text <= '9'; text++)
    if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, uint64_t(*text - '0'), &n)) return false;
  out = n;
  *rest = text;
  return true;
}

struct Unit {
  const char* name;
  uint64_t factor;
};
bool with_unit(const char* text, const Unit* units, uint64_t& out) {
  const char* rest;
  uint64_t n;
  if (!number(text, n, &rest)) return false;
  for (; units->name; units++)
    if (is(rest, units->name)) return !__builtin_mul_overflow(n, units->factor, &out);
  return false;
}

constexpr Unit kNoUnits[] = {{"", 1}, {nullptr, 0}};
constexpr Unit kSizes[] = {{"", 1}, {"K", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}, {"KiB", 1 << 10}, {"MiB", 1 << 20},
                           {"GiB", 1 << 30}, {nullptr, 0}};
constexpr Unit kMillis[] = {{"", 1}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}, {nullptr, 0}};
constexpr Unit kSeconds[] = {{"", 1000}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}, {nullptr, 0}};

bool parse_count(const char* text, uint64_t& out) { return with_unit(text, kNoUnits, out); }
bool parse_size(const char* text, uint64_t& out) { return with_unit(text, kSizes, out); }
bool parse_millis(const char* text, uint64_t& out) { return with_unit(text, kMillis, out); }
bool parse_seconds(const char* text, uint64_t& out) { return with_unit(text, kSeconds, out); }
bool parse_text(const char* text, Text& out) {
  size_t n = strlen(text);
  if (n >= sizeof(out.value)) return false;
  memcpy(out.value, text, n + 1);
  return true;
}
bool parse_bool(const char* text, Bool& out) { return parse(text, out); }

#define PARSE_Bool parse_bool
#define PARSE_Count parse_count
#define PARSE_Size parse_size
#define PARSE_Millis parse_millis
#define PARSE_Seconds parse_seconds
#define PARSE_Text parse_text

// Copies one value, quoted or not, up to ':' or the end; nullptr: too long or a quote is missing.
const char* take_value(const char* p, char* out, size_t max) {
  bool quoted = *p == '"';
  if (quoted) p++;
  size_t n = 0;
  while (*p && (quoted ? *p != '"' : *p != ':')) {
    if (quoted && *p == '\\' && (p[1] == '"' || p[1] == '\\')) p++;
    if (n + 1 >= max) return nullptr;
    out[n++] = *p++;
  }
  out[n] = 0;
  if (quoted) {
    if (*p != '"') return nullptr;
    p++;
  }
  return *p == 0 || *p == ':' ? p : nullptr;
}
}  // namespace

bool set_option(Options& options, const char* name, const char* value) {
#define X(type, key, standard, help) \
  if (strcmp(name, #key) == 0) return PARSE_##type(value, options.key);
  TIDEMARK_OPTION_TABLE(X)
#undef X
  return false;
}

void set_defaults(Options& options) {
#define X(type, key, standard, help) PARSE_##type(standard, options.key);
  TIDEMARK_OPTION_TABLE(X)
#undef X
}

bool parse_options(const char* text, Options& options, const char** error) {
  static char value[kTextOption];   // the program's first call of malloc, or a test: one thread
  for (const char* p = text; p && *p;) {
    if (*p == ':') {
      p++;
      continue;
    }
    *error = p;
    char name[64];
    size_t n = 0;
    while (*p && *p != '=' && *p != ':' && n + 1 < sizeof(name)) name[n++] = *p++;
    name[n] = 0;
    if (*p != '=') return false;
    p = take_value(p + 1, value, sizeof(value));
    if (!p || !set_option(options, name, value)) return false;
  }
  return true;
}

}  // namespace tidemark::keeper
