// What is in the files that tell of cgroups, however they are read.
#pragma once
#include <cstddef>
#include <cstdint>

#include "preload/platform/cgroup.h"

namespace tidemark::platform {

constexpr uint64_t kNoCgroupLimit = uint64_t{1} << 60;   // version 1 writes LONG_MAX rounded down to pages
constexpr size_t kCgroupLine = 4096 + 512;               // a path, and more

// `out` becomes FOLDER/FILE, of the folder's first `length` bytes; false: too long.
bool join_path(char (&out)[600], const char* folder, size_t length, const char* file);
// The number behind "KEY " at the start of a line; UINT64_MAX: there is none.
uint64_t keyed(const char* text, const char* key);
// The path that a line of /proc/self/cgroup gives: "N:memory:PATH" or "0::PATH". false: the line is of another hierarchy.
bool cgroup_path(const char* line, bool version_2, char (&path)[512]);
// Whether a line of /proc/self/mountinfo mounts the hierarchy so that the cgroup of that path, or a container's own as the root, has its files there.
bool find_at_mount(const char* line, bool version_2, const char* path, Cgroup& out);

}  // namespace tidemark::platform
