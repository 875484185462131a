// Takes all memory that a limit of its own allows, and handles it. What others need for their first call is not there then.
//
//   exhausted wait|thread|little data|as MIB    wait: it lives on for a while; thread: one that was there before allocates for the first time; little: the
//   same, after some blocks were given back: not enough for an arena, but for a thread's cache
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include "expect.h"

static std::atomic<bool> full{false};
static void* kept[2'000'000];

static void* late(void*) {
  while (!full) usleep(1000);
  free(keep(malloc(100)));
  return nullptr;
}

int main(int, char** arguments) {
  bool wait = strcmp(arguments[1], "wait") == 0, little = strcmp(arguments[1], "little") == 0;
  rlim_t bytes = rlim_t(atol(arguments[3])) << 20;
  pthread_t thread;
  if (!wait) pthread_create(&thread, nullptr, late, nullptr);
  rlimit limit{bytes, bytes};
  setrlimit(strcmp(arguments[2], "as") == 0 ? RLIMIT_AS : RLIMIT_DATA, &limit);
  int count = 0;
  for (size_t size = little ? 64 << 10 : 1 << 20; size >= size_t(little ? 64 << 10 : 16); size /= 2)
    for (; count < 2'000'000 && (kept[count] = malloc(size)); count++) {}
  for (int i = 0; little && i < 8 && count > 0; i++) free(kept[--count]);
  if (wait) sleep(2);
  full = true;
  if (!wait) pthread_join(thread, nullptr);
  while (count--) free(kept[count]);
}
