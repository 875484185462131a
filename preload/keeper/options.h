// TIDEMARK_OPTIONS, parsed without allocation: it happens in the program's first call of malloc.
#pragma once
#include <cstdint>

#include "preload/format/options.h"

namespace tidemark::keeper {

inline constexpr uint32_t kTextOption = 1024;   // a longer value is an error
using Bool = bool;
using Count = uint64_t;
using Size = uint64_t;
using Millis = uint64_t;    // both are milliseconds; a number without a unit is taken for what the name says
using Seconds = uint64_t;
struct Text {
  char value[kTextOption];
};

struct Options {
#define X(type, name, standard, help) type name;
  TIDEMARK_OPTION_TABLE(X)
#undef X
};

// One option, its value as it is, without quotes. false: unknown, or not understood; nothing changes.
bool set_option(Options& options, const char* name, const char* value);

// The table's defaults.
void set_defaults(Options& options);
// Reads `text` (may be null) into `options`. On an error returns false and points at the offending place; what came before it
// holds.
bool parse_options(const char* text, Options& options, const char** error);

}  // namespace tidemark::keeper
