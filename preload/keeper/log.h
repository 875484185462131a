// Warnings to the option `log`: a file or syslog. libtidemark-log.so lies beside the shim.
#pragma once
#include "preload/format/timeline.h"

namespace tidemark::keeper {

// Loads the library if a log is asked for. When the shim starts: a thread of the program that holds the loader's lock, in a constructor, may wait for the keeper.
void load_log();

// Opens files, allocates, loads the library if a log was asked for later: from an errand. What cannot be written is counted.
void log_event(const format::Event& event);

}  // namespace tidemark::keeper
