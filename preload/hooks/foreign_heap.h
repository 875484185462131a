// A program that brings its own malloc in its executable keeps it. Its blocks must not reach our heap: what it does not define
// itself, and we do, goes on to whom it would have reached without us.
#pragma once
#include <cstddef>
#include <cstdint>
#include "preload/base/common.h"

namespace tidemark::hooks {

namespace detail {
enum class HeapOwner : uint8_t { kUnknown, kShim, kProgram };
enum class OperatorsOwner : uint8_t { kUnknown, kShim, kOthers };
// Both in one line, for programs that call malloc and new in turns.
struct Owners {
  HeapOwner heap;
  OperatorsOwner operators;   // elsewhere.h
};
// Hidden here too: -fvisibility covers definitions alone, and a load by way of the GOT would cost every malloc.
__attribute__((visibility("hidden"))) extern constinit Owners owners;
bool ask_heap_owner();  // reads the executable's symbols; callable at any time
}  // namespace detail

// False: the heap is ours for certain. True until the question was first asked, too, so that hot hooks can leave their fast path
// by a tail call and need save no register for it.
inline bool maybe_foreign() { return detail::owners.heap != detail::HeapOwner::kShim; }

inline bool foreign() { return maybe_foreign() && detail::ask_heap_owner(); }

// The definition that follows ours in the program's search order, kept in `cache`; null when there is none.
void* next_definition(const char* name, void** cache);

// The program's own malloc family, for what nobody behind us defines (operator new in a library whose libstdc++ is out of
// sight, free_sized on an older libc).
void* program_malloc(size_t bytes);
void* program_aligned_alloc(size_t alignment, size_t bytes);
void program_free(void* block);

}  // namespace tidemark::hooks

// In a hook of a libc function: hand the call on when the heap is the program's. Falls through when there is no such function.
#define TIDEMARK_FORWARD_IF_FOREIGN(function, ...)                          \
  if (::tidemark::hooks::foreign()) [[unlikely]] {                          \
    static constinit void* cache = nullptr;                                 \
    if (void* next = ::tidemark::hooks::next_definition(#function, &cache)) \
      return reinterpret_cast<decltype(&function)>(next)(__VA_ARGS__);      \
  }
