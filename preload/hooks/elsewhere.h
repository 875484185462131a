// Operators new and delete that the program, or a library it started with, replaces without a malloc of its own. Which forms it
// replaced is not for us to know: the C++ library's other forms are defined to call those. So all of ours hand their calls on
// to whom these would have reached without us. And functions by the names of some of ours that are no part of a malloc.
#pragma once
#include <cstddef>
#include <cstdint>

#include "preload/hooks/foreign_heap.h"

// Each form by its mangled name, and whom the standard's own definition calls, which takes the same arguments but the last, or, of those with a size and
// an alignment, but the size; itself: nobody.
#define TIDEMARK_OPERATORS(X)                                                  \
  X(_Znwm, _Znwm)                                                              \
  X(_Znam, _Znwm)                                                              \
  X(_ZnwmRKSt9nothrow_t, _Znwm)                                                \
  X(_ZnamRKSt9nothrow_t, _Znam)                                                \
  X(_ZnwmSt11align_val_t, _ZnwmSt11align_val_t)                                \
  X(_ZnamSt11align_val_t, _ZnwmSt11align_val_t)                                \
  X(_ZnwmSt11align_val_tRKSt9nothrow_t, _ZnwmSt11align_val_t)                  \
  X(_ZnamSt11align_val_tRKSt9nothrow_t, _ZnamSt11align_val_t)                  \
  X(_ZdlPv, _ZdlPv)                                                            \
  X(_ZdaPv, _ZdlPv)                                                            \
  X(_ZdlPvm, _ZdlPv)                                                           \
  X(_ZdaPvm, _ZdaPv)                                                           \
  X(_ZdlPvRKSt9nothrow_t, _ZdlPv)                                              \
  X(_ZdaPvRKSt9nothrow_t, _ZdaPv)                                              \
  X(_ZdlPvSt11align_val_t, _ZdlPvSt11align_val_t)                              \
  X(_ZdaPvSt11align_val_t, _ZdlPvSt11align_val_t)                              \
  X(_ZdlPvmSt11align_val_t, _ZdlPvSt11align_val_t)                             \
  X(_ZdaPvmSt11align_val_t, _ZdaPvSt11align_val_t)                             \
  X(_ZdlPvSt11align_val_tRKSt9nothrow_t, _ZdlPvSt11align_val_t)                \
  X(_ZdaPvSt11align_val_tRKSt9nothrow_t, _ZdaPvSt11align_val_t)

// What we have for who was linked with an allocator that does. glibc has cfree for old programs alone, the others since 2.43 or not at all:
// to a library they may be names like any other.
#define TIDEMARK_SCARCE(X) X(cfree) X(free_sized) X(free_aligned_sized)

namespace tidemark::hooks {

enum class Operator : uint8_t {
#define TIDEMARK_LIST_OPERATOR(name, simpler) name,
  TIDEMARK_OPERATORS(TIDEMARK_LIST_OPERATOR)
#undef TIDEMARK_LIST_OPERATOR
      kCount
};

enum class Scarce : uint8_t {
#define TIDEMARK_LIST_SCARCE(name) name,
  TIDEMARK_SCARCE(TIDEMARK_LIST_SCARCE)
#undef TIDEMARK_LIST_SCARCE
      kCount
};

namespace detail {
__attribute__((visibility("hidden"))) extern constinit void* other_functions[size_t(Scarce::kCount)];
}

// At the program's start, or by an earlier call of a library's constructor. Reads memory only: no lock, no allocation.
void learn_others();

// False: the operators are ours for certain, and so is the heap, which need not be asked about. True until
// they were learnt, too.
inline bool maybe_elsewhere() { return detail::owners.operators != detail::OperatorsOwner::kShim; }

// Whom a call of this form is for, and which form that is; null: us.
struct OtherDefinition {
  void* code;
  Operator form;
};
OtherDefinition other_definition(Operator form);

inline void* other_function(Scarce name) {
  if (detail::owners.operators == detail::OperatorsOwner::kUnknown) [[unlikely]]
    learn_others();
  return detail::other_functions[size_t(name)];
}

}  // namespace tidemark::hooks

// To be called with the hook's own arguments, by a jump: the program's stack shows no frame of ours. Returns where it is for others.
#define TIDEMARK_HAND_ON(name, arguments)                                                         \
  if (void* other = ::tidemark::hooks::other_definition(::tidemark::hooks::Operator::name).code) \
    return reinterpret_cast<decltype(&name)>(other) arguments
