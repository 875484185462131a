// Whose child a process is that was started without TIDEMARK_RUN: servers clean their environment (dovecot, postfix), and keep LD_PRELOAD.
#pragma once
#include "preload/keeper/run.h"

namespace tidemark::keeper {

// Takes the run of the nearest ancestor that lives and has a region in that folder; false: none has. Plain system calls, errno is lost, not thread-safe.
bool join_run_of_ancestor(const char* dir, Run& run);

}  // namespace tidemark::keeper
