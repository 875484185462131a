// Questions about the program's executable that can be answered at any time: by reading memory that the loader had finished
// before any code of the process ran. No lock, no allocation.
#pragma once

namespace tidemark::platform {

// Whether the executable itself defines this function in its dynamic symbol table, so that its definition comes before any
// preloaded one.
bool main_executable_defines(const char* function);

// Whether the program's calls of malloc go to another library, which comes before this one in the loader's order. (What the loader says malloc is may be a
// line in the executable's PLT, whose address is malloc's to all.)
bool malloc_is_elsewhere();

}  // namespace tidemark::platform
