// What is read off code that is in no module, and that it may be other code by now: there no loader tells when it goes.
#pragma once
#include "preload/base/common.h"

namespace tidemark::stacks {

// CPython 3.12 and 3.13 with -X perf call each Python function through generated code, the same for all (Python/asm_trampoline.S): sub $8,
// %rsp; call *%rcx; add $8, %rsp; ret. No frame pointer leads over it.
bool is_cpython_trampoline(address pc);
// Whether it still is one, which it was. The kernel is asked once, until that code may have gone.
bool is_cpython_trampoline_yet(address pc);

// Other code may lie at these addresses from now on: pages went, came, or have other rights. To be called once they have. Fit for signal handlers.
void forget_code(address start, address end);

}  // namespace tidemark::stacks
