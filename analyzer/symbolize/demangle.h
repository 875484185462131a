// Names as a person wrote them.
#pragma once
#include <string>

namespace tidemark::symbolize {

// C++ (Itanium) and Rust (legacy and v0) names demangled, without Rust's hash; symbol versions cut off. Anything else as it is.
std::string demangle(const char* name);

}  // namespace tidemark::symbolize
