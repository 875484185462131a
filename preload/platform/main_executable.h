// Questions about the program's executable that can be answered at any time: by reading memory that the loader had finished
// before any code of the process ran. No lock, no allocation.
#pragma once

namespace tidemark::platform {

// Whether the executable itself defines this function in its dynamic symbol table, so that its definition comes before any
// preloaded one.
bool main_executable_defines(const char* function);

}  // namespace tidemark::platform
