// Blocks that a fork child inherited. Their stack ids are below Store::first_line: they name records of an ancestor's region,
// which stays mapped, read-only, until the child's own region exists. Then each such id has a record of kind kInherited.
#pragma once
#include "preload/base/store.h"

namespace tidemark::heap {

// Child of fork, first thing: the present store becomes an ancestor.
void push_ancestor();

// A block with an inherited id is freed or reallocated.
void count_inherited_free(uint32_t id, uint64_t bytes);

// Counts all live inherited blocks by stack and makes their records. No other thread may be inside a hook.
void adopt_inherited();

// The parent's header, if it was a region: its coverage tells of children that could not be recorded. nullptr: none.
format::Header* parent_header();

}  // namespace tidemark::heap
