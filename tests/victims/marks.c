// Calls tidemark.h: the same answers, apart from what they tell, with and without the shim. Arguments: calls, bytes that stay behind in each.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../preload/tidemark.h"

static void* volatile kept;

int main(int argc, char** argv) {
  long calls = argc > 1 ? atol(argv[1]) : 0, bytes = argc > 2 ? atol(argv[2]) : 0;
  for (long i = 0; i < calls; i++) {
    tidemark_mark("call started");
    for (int k = 0; k < 10; k++) free(malloc(500));
    if (bytes) kept = malloc((size_t)bytes);
    if (i % 2) tidemark_mark("every other call");
  }
  struct tidemark_statistics now;
  memset(&now, 0, sizeof now);
  if (tidemark_stats(&now) == 0) fprintf(stderr, "live %lu\n", (unsigned long)now.live_bytes);
  if (tidemark_cleanup() == 0) {
    for (int i = 0; i < 1000 && now.purges == 0; i++) {
      usleep(10000);
      tidemark_stats(&now);
    }
    fprintf(stderr, "purges %lu\n", (unsigned long)now.purges);
  }
  puts("done");
  return 0;
}
