// Takes a private copy of a region file that its writer may be changing at this moment.
#pragma once
#include <string>

#include "analyzer/region/region.h"

namespace tidemark::region {

// The used pages of the file, or all it has of them. Stack records are read first and what they refer to last, so that every
// record in the copy finds its nodes. Throws ReadError when the file cannot be opened or read, or is no region.
Bytes copy_used_part(const std::string& path);

}  // namespace tidemark::region
