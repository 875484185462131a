// Threads of ours: the keeper, and those that do its errands.
#pragma once
#include <pthread.h>

namespace tidemark::keeper {

// With a small stack; signals are blocked as they are in the caller. false: none could be made.
bool make_thread(pthread_t& thread, void* (*main)(void*), void* argument);

}  // namespace tidemark::keeper
