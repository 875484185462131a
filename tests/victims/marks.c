// Calls tidemark.h: the same answers, apart from what they tell, with and without the shim. Arguments: calls, bytes that stay behind in each;
// then, maybe, fork, _Fork or vfork: a child that marks, too. First: before it has allocated anything.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../preload/tidemark.h"

static void* volatile kept;

static int child(int first) {
  if (first) tidemark_mark("first of all");
  for (int i = 0; i < 5000; i++) {   // enough for a region of its own
    kept = malloc(20);
    if (first && i == 9) tidemark_mark("in its grace");
  }
  for (int i = 0; i < 7; i++) tidemark_mark("call started");
  tidemark_mark("in the child");
  return 0;
}

static pid_t fork_in_the_way(const char* how) { return strcmp(how, "fork") == 0 ? fork() : _Fork(); }

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
  if (argc > 3) {
    int status = 0;
    int own_memory = strcmp(argv[3], "vfork") != 0;
    pid_t pid = own_memory ? fork_in_the_way(argv[3]) : vfork();
    if (pid == 0 && !own_memory) tidemark_mark("call started");
    if (pid == 0) _exit(own_memory ? child(argc > 4) : 0);
    waitpid(pid, &status, 0);
    printf("child: %x\n", (unsigned)status);
  }
  puts("done");
  return 0;
}
