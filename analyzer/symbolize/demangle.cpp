#include "analyzer/symbolize/demangle.h"

#include <libiberty/demangle.h>

#include <cstdlib>

namespace tidemark::symbolize {

std::string demangle(const char* name) {
  std::string plain(name);
  if (size_t version = plain.find('@'); version != std::string::npos && version != 0) plain.resize(version);
  // Clang's suffix for promoted local symbols means nothing to a person, and hides the Rust hash.
  if (size_t llvm = plain.find(".llvm."); llvm != std::string::npos) plain.resize(llvm);
  if (!plain.starts_with("_Z") && !plain.starts_with("_R")) return plain;

  char* demangled = cplus_demangle(plain.c_str(), DMGL_AUTO | DMGL_PARAMS | DMGL_ANSI);
  if (demangled == nullptr) return plain;
  std::string result(demangled);
  std::free(demangled);
  return result;
}

}  // namespace tidemark::symbolize
