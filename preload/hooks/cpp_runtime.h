// What operator new does when there is no memory: the program's new-handler, and std::bad_alloc thrown by the C++ library that
// the program loaded. The shim has no way of throwing of its own, and looks for one on this path only.
#pragma once
#include <link.h>

#include <cstddef>

#include "preload/heap/tracker.h"

namespace tidemark::hooks {

struct NewRequest {
  size_t bytes;
  size_t alignment;  // 1 in the forms without one; not a power of two: fails without the handler being asked
  heap::Caller caller;
  void* (*attempt)(const NewRequest&);
};

// Whether this is a C++ library, by its name.
bool is_cpp_runtime(const link_map& module);

// At the program's start, before there are other threads.
void learn_cpp_runtime();

// Goes on until the new-handler found memory; throws std::bad_alloc when there is none (or whatever the handler throws).
void* new_after_failure(const NewRequest& request);

// The same for the nothrow forms, which return null instead of throwing. The second: for those with an alignment. `form` is the
// mangled name of the operator that failed.
void* nothrow_new_after_failure(const NewRequest& request, const char* form);
void* nothrow_aligned_new_after_failure(const NewRequest& request, const char* form);

}  // namespace tidemark::hooks
