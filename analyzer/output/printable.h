// Foreign text for a terminal.
#pragma once
#include <string>
#include <string_view>

namespace tidemark::output {

// Text from a region, a binary or a script, safe to print: what could steer a terminal is shown as \xNN.
std::string printable(std::string_view text);

}  // namespace tidemark::output
