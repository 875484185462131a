// Memory straight from the kernel, for tables that live inside malloc. Zero-filled. errno is left as it was.
#pragma once
#include <cstddef>

namespace tidemark::base {

// nullptr when the kernel refuses (RLIMIT_AS, overcommit). Never unmapped where lock-free readers may linger.
void* map_private(size_t bytes);
// Address space without memory: nothing becomes resident, even under mlockall(MCL_FUTURE), until open_memory.
void* reserve(size_t bytes);
bool open_memory(void* start, size_t bytes);
void unmap(void* start, size_t bytes);
// Makes pages present in one system call: a fault each costs several times as much. A hint; may do nothing.
void populate(void* start, size_t bytes);
// The same of a shared file that is mapped to be read at random, whose pages the file system would make one by one: first all are read (made, where
// nothing was written yet), which takes a third less (ext4, Linux 6.18). Other memory: as populate.
void populate_file(void* start, size_t bytes);
// As map_private, for tables that start small: several share a few pages that are there already. Never unmapped.
void* small_table(size_t bytes);
// An outgrown table's memory, all but its first page, back to the kernel. It stays mapped: who still reads it finds zeros there.
void discard_table(void* table, size_t bytes);
void forget_small_tables();   // child of fork: what it makes from now on has pages of its own

// Whether 8 bytes at `a` can be read, without a signal: rt_sigprocmask(2) with an invalid `how` copies the set in first and
// says EFAULT or EINVAL. About 100 ns.
bool readable(const void* a);
// Copies `bytes` from `a`, which the program may unmap at any moment; false: they cannot be read. Where the kernel may not be asked to copy
// (process_vm_readv(2), under a seccomp filter), it is asked first whether they can be read, and a moment is left in which they may go. `bytes`: less than a page.
bool copy_if_readable(void* out, const void* a, size_t bytes);
void allow_kernel_copies();    // no filter is there
void forbid_kernel_copies();   // from now on, for a filter never goes
void permit_kernel_copies();   // takes one such word back: that filter was refused
bool filter_came();             // as far as it was noticed
bool may_copy_by_kernel();      // nor has one come
// As readable, of each page of a range; false where it wraps around.
bool all_readable(const void* start, size_t bytes);

}  // namespace tidemark::base
