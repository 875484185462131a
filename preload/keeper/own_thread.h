// Threads of ours: the keeper, and those that do its errands.
#pragma once
#include <pthread.h>

namespace tidemark::keeper {

// With a small stack; signals are blocked as they are in the caller. false: none could be made.
bool make_thread(pthread_t& thread, void* (*main)(void*), void* argument);
// How much thread-local storage the program and its libraries have from the start. Once, outside of malloc: it asks the loader.
void learn_static_tls();

}  // namespace tidemark::keeper
