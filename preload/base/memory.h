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

// Whether 8 bytes at `a` can be read, without a signal: rt_sigprocmask(2) with an invalid `how` copies the set in first and
// says EFAULT or EINVAL. About 100 ns.
bool readable(const void* a);

}  // namespace tidemark::base
