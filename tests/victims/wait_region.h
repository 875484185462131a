// Waits, without allocating, for what the test harness waits for too. Plain runs (no REGION_DIR) only live a little longer.
#pragma once
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <unistd.h>

inline void sleep_ms(long ms) {
  timespec t{ms / 1000, ms % 1000 * 1000000};
  while (nanosleep(&t, &t) != 0) {
  }
}

// True when this process's region is there and complete (its magic is written last); gives up after a minute.
inline bool wait_for_own_region(const char* program = program_invocation_short_name) {
  const char* dir = getenv("REGION_DIR");
  if (!dir || !*dir) {
    sleep_ms(50);
    return false;
  }
  char path[512];
  snprintf(path, sizeof path, "%s/%s.%d.tide", dir, program, getpid());
  for (int i = 0; i < 6000; i++) {
    char magic[8] = {};
    int fd = open(path, O_RDONLY);
    if (fd >= 0) {
      ssize_t got = pread(fd, magic, sizeof magic, 0);
      close(fd);
      if (got == sizeof magic && memcmp(magic, "TIDEMARK", sizeof magic) == 0) return true;
    }
    sleep_ms(10);
  }
  return false;
}
