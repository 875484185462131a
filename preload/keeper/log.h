// Warnings to the option `log`: a file or syslog. Loads libtidemark-log.so from beside the shim at the first line.
#pragma once
#include "preload/format/timeline.h"

namespace tidemark::keeper {

// Opens files, allocates, may load a library: from an errand. What cannot be written is counted.
void log_event(const format::Event& event);

}  // namespace tidemark::keeper
