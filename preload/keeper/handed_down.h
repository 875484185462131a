// Whether a program that is about to be executed is given this library, too: by LD_PRELOAD in the environment that is passed.
#pragma once

namespace tidemark::keeper {

void learn_how_we_came();   // by the constructor
// False, too, where this process was not given the library by that variable: what gave it (/etc/ld.so.preload) does so again, or never did.
// Reads only what can be read, for execve may be given anything, and allocates nothing: fit for a vfork child and for a signal handler.
bool loses_preload(char* const* environment);
// Whether our file is where it was, for who looks from here.
bool library_is_there();

}  // namespace tidemark::keeper
