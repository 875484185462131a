// What the program maps itself, by call stack: counted as it happens into format::MappingStack, measured with the ledger. From any thread; a signal
// handler inside the allocator is not waited for: what it maps is counted in coverage. errno is kept.
#pragma once
#include <cstddef>

#include "preload/base/common.h"
#include "preload/heap/mapped_table.h"

namespace tidemark::heap {

// After a call that mapped [start, start + bytes), and replaced what lay there.
void note_mapped(const void* start, size_t bytes, const Caller& caller);

// After a call that may have let the program write there, or run what it has written.
void note_changed_rights(const void* start, size_t bytes);

// Before a call that unmaps: the next moment the addresses may be another thread's mapping.
class Unmapping {
 public:
  Unmapping(const void* start, size_t bytes);
  void failed();   // it is all there still

 private:
  static constexpr uint32_t kKept = 16;   // more parts than these are not put back
  static void take(void* unmapping, const MappedRange& part);
  MappedRange parts_[kKept];
  uint32_t count_ = 0, session_ = 0;
};

// Where the resident bytes of mappings are: for a thread of ours, in this order, once for each ledger. The first two return how many bytes that are.
uint64_t add_resident_mapping(uintptr_t start, uintptr_t end, uint64_t rss);   // of one of the kernel's mappings, what is the program's own
uint64_t exclude_from_mappings(uintptr_t start, uintptr_t end);                // is another part of the ledger
void publish_resident_mappings(bool baseline);

void confine_mappings();      // a seccomp filter comes, which may kill who asks to hold signals back
void unconfine_mappings();         // that one was refused
void reset_mappings_lock();   // child of fork
void forget_mappings();       // the same, when it gets a store of its own: what it inherited has no stack there

}  // namespace tidemark::heap
