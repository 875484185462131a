// Many of what others have a few of. crowds threads SHORT ALIVE: so many threads one after another, then so many at once. crowds stacks
// NUMBER: so many different call stacks, every second block kept.
#include <cstdlib>
#include <cstring>
#include <pthread.h>

#include "expect.h"
#include "two_ways.h"

constexpr int kPerThread = 25;

SITE void* site_of_thread() { return keep(malloc(72)); }

SITE void* short_life(void*) {
  for (int i = 0; i < kPerThread; i++) free(site_of_thread());
  return nullptr;
}

static pthread_barrier_t all_are_here;
SITE void* long_life(void*) {
  void* first = site_of_thread();
  pthread_barrier_wait(&all_are_here);   // so many are alive now
  pthread_barrier_wait(&all_are_here);
  free(first);
  for (int i = 1; i < kPerThread; i++) free(site_of_thread());
  return nullptr;
}

static long resident_kib() {
  char text[128] = {};
  FILE* file = fopen("/proc/self/statm", "r");
  setvbuf(file, nullptr, _IONBF, 0);
  long pages = fgets(text, sizeof text, file) ? strtol(strchr(text, ' '), nullptr, 10) : 0;
  fclose(file);
  return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static int threads(int shorts, int alive) {
  pthread_t thread;
  for (int i = 0; i < shorts; i++)
    if (pthread_create(&thread, nullptr, short_life, nullptr) != 0 || pthread_join(thread, nullptr) != 0) return 2;
  auto* crowd = new pthread_t[size_t(alive)];
  pthread_barrier_init(&all_are_here, nullptr, unsigned(alive) + 1);
  long before = resident_kib();
  for (int i = 0; i < alive; i++)
    if (pthread_create(&crowd[i], nullptr, long_life, nullptr) != 0) return 2;
  pthread_barrier_wait(&all_are_here);
  long after = resident_kib();
  pthread_barrier_wait(&all_are_here);
  for (int i = 0; i < alive; i++) pthread_join(crowd[i], nullptr);
  long blocks = long{kPerThread} * (shorts + alive);
  expect("site_of_thread", blocks, 72, blocks);
  SAY("a live thread takes %ld KiB\n", (after - before) / alive);
  return 0;
}

static int stacks(unsigned number) {
  for (unsigned i = 0; i < number; i++)
    two_ways<0>(24, (i * 2654435761u) & 0xffffff, [i] {
      void* block = malloc(40);
      if (i % 2) free(keep(block));
      else keep(block);
    });
  SAY("resident: %ld KiB\n", resident_kib());
  return 0;
}

int main(int, char** arguments) {
  if (strcmp(arguments[1], "threads") == 0) return threads(atoi(arguments[2]), atoi(arguments[3]));
  return stacks(unsigned(atoi(arguments[2])));
}
