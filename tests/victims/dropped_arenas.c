// Blocks that jemalloc drops all at once, with their arena: 100 small ones and 10 large ones at each site. The program's output says how each call went.
#include <jemalloc/jemalloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { kSmall = 100, kLarge = 10 };
static void* blocks[kSmall + kLarge];
static void* volatile other;

#define SITE __attribute__((noinline)) static void
#define ALLOCATE(arena)                                                                                                     \
  for (int i = 0; i < kSmall + kLarge; i++)                                                                                 \
    blocks[i] = mallocx(i < kSmall ? 1000 : 100000, MALLOCX_ARENA(arena) | MALLOCX_TCACHE_NONE);                            \
  other = blocks[0]
SITE site_reset(unsigned arena) { ALLOCATE(arena); }
SITE site_after_reset(unsigned arena) { ALLOCATE(arena); }
SITE site_by_number(unsigned arena) { ALLOCATE(arena); }
SITE site_refused(unsigned arena) { ALLOCATE(arena); }
SITE site_elsewhere(void) {
  for (int i = 0; i < kSmall; i++) other = malloc(1000);
}

static unsigned new_arena(void) {
  unsigned arena = 0;
  size_t size = sizeof(arena);
  mallctl("arenas.create", &arena, &size, NULL, 0);
  return arena;
}
static void call(const char* what, unsigned arena) {
  char name[64];
  snprintf(name, sizeof(name), "arena.%u.%s", arena, what);
  printf("%s: %d\n", what, mallctl(name, NULL, NULL, NULL, 0));
}

static void* other_thread(void* arena) {   // goes on elsewhere meanwhile
  (void)arena;
  for (int i = 0; i < 20000; i++) free(malloc(i % 3000));
  return NULL;
}

int main(void) {
  pthread_t thread;
  pthread_create(&thread, NULL, other_thread, NULL);
  unsigned arena = new_arena();
  site_reset(arena);
  site_elsewhere();
  call("reset", arena);
  site_after_reset(arena);
  for (int i = 0; i < 10; i++) dallocx(blocks[i], MALLOCX_TCACHE_NONE);
  call("destroy", arena);

  arena = new_arena();
  site_by_number(arena);
  size_t mib[3], length = 3;
  mallctlnametomib("arena.0.destroy", mib, &length);
  mib[1] = arena;
  printf("by number: %d\n", mallctlbymib(mib, length, NULL, NULL, NULL, 0));

  arena = new_arena();
  site_refused(arena);
  mallctl("thread.arena", NULL, NULL, &arena, sizeof(arena));
  call("destroy", arena);   // refused: this thread uses it
  for (int i = 0; i < 10; i++) dallocx(blocks[i], MALLOCX_TCACHE_NONE);
  pthread_join(thread, NULL);
  return 0;
}
