// libunwind, for the check option only: loaded in a scope of its own, so that its _Unwind_* functions cannot take over the
// program's C++ exceptions, and so that programs that are not checked pay nothing for it.
#pragma once

namespace tidemark::platform {

using Backtrace = int (*)(void** pcs, int max);
Backtrace load_libunwind();   // unw_backtrace, warmed up; nullptr: not installed. Not inside malloc

}  // namespace tidemark::platform
