// `tidemark run`: launches a program with the shim and gives the run its ends.
#pragma once

namespace tidemark {

// `argv` is as main has it, from the word `run` on: argv[0] is "run", the launcher's options follow. Returns or exits with the
// program's status; 125 to 127 as `run --help` says. When the program died of a signal, this process does, too. Must be called
// before the process starts a thread.
int run_command(int argc, char** argv);

}  // namespace tidemark
