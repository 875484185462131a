// Arenas that change while others purge; run it with a short cleanup_interval.
//
//   arenas_at_work trim     some are destroyed while another thread calls malloc_trim
//   arenas_at_work hooks    some get extent hooks, and tell who calls these
//   arenas_at_work fork     children are forked, and must be able to purge: 1 if one can't
//   arenas_at_work filter   behind a seccomp filter that kills who waits for another thread; 77: none can be put
#define _GNU_SOURCE
#include <jemalloc/jemalloc.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static unsigned new_arena(void) {
  unsigned arena = 0;
  size_t size = sizeof(arena);
  if (mallctl("arenas.create", &arena, &size, NULL, 0) != 0) exit(2);
  return arena;
}
static void destroy(unsigned arena) {
  char name[64];
  snprintf(name, sizeof(name), "arena.%u.destroy", arena);
  if (mallctl(name, NULL, NULL, NULL, 0) != 0) exit(3);
}
enum { kMany = 512 };
static void* blocks[kMany];
static void use_and_free(int flags, int count, size_t bytes, int step) {
  for (int i = 0; i < count; i++) memset(blocks[i] = mallocx(bytes, flags), 1, bytes);
  for (int i = 0; i < count; i += step) dallocx(blocks[i], flags);
}
static void fill_and_free(void) { use_and_free(0, 128, (2 << 20) - 8192, 1); }

static volatile int over;
static void* trim(void* unused) {
  while (!over) malloc_trim(0);
  return unused;
}
static int destroy_while_trimming(void) {
  pthread_t thread;
  pthread_create(&thread, NULL, trim, NULL);
  for (int i = 0; i < 1000; i++) {
    unsigned arena = new_arena();
    use_and_free(MALLOCX_ARENA(arena) | MALLOCX_TCACHE_NONE, 20, 65536, 1);
    destroy(arena);
  }
  over = 1;
  pthread_join(thread, NULL);
  return 0;
}

static pid_t main_thread;
static int foreign_calls;
static extent_hooks_t* before;
static void look(void) {
  if (gettid() != main_thread) foreign_calls++;
}
static bool dalloc(extent_hooks_t* hooks, void* at, size_t bytes, bool committed, unsigned arena) {
  look();
  (void)hooks;
  return before->dalloc ? before->dalloc(before, at, bytes, committed, arena) : true;
}
static bool purge_lazy(extent_hooks_t* hooks, void* at, size_t bytes, size_t offset, size_t length, unsigned arena) {
  look();
  (void)hooks;
  return before->purge_lazy ? before->purge_lazy(before, at, bytes, offset, length, arena) : true;
}
static bool purge_forced(extent_hooks_t* hooks, void* at, size_t bytes, size_t offset, size_t length, unsigned arena) {
  look();
  (void)hooks;
  return before->purge_forced ? before->purge_forced(before, at, bytes, offset, length, arena) : true;
}
static int set_hooks(void) {
  static extent_hooks_t own;
  extent_hooks_t* new_hooks = &own;
  main_thread = gettid();
  for (int i = 0; i < 10; i++) {
    unsigned arena = new_arena();
    use_and_free(MALLOCX_ARENA(arena) | MALLOCX_TCACHE_NONE, kMany, 256 << 10, 2);
    usleep((useconds_t)(rand() % 100000));
    char name[64];
    snprintf(name, sizeof(name), "arena.%u.extent_hooks", arena);
    size_t size = sizeof(before);
    if (mallctl(name, &before, &size, NULL, 0) != 0) return 4;
    own = *before;
    own.dalloc = dalloc, own.purge_lazy = purge_lazy, own.purge_forced = purge_forced;
    if (mallctl(name, NULL, NULL, &new_hooks, sizeof(new_hooks)) != 0) return 5;
    usleep(50000);
    destroy(arena);
  }
  printf("%d\n", foreign_calls);
  return foreign_calls != 0;
}

static size_t free_pages(void) {
  size_t pages = 0, size = sizeof(pages);
  uint64_t now = 1;
  mallctl("epoch", NULL, NULL, &now, sizeof(now));
  mallctl("stats.arenas.4096.pdirty", &pages, &size, NULL, 0);
  return pages;
}
static int fork_and_purge(void) {
  int failed = 0;
  for (int i = 0; i < 20; i++) {
    fill_and_free();
    usleep((useconds_t)(rand() % 60000));
    pid_t child = fork();
    if (child == 0) {
      use_and_free(0, 16, (2 << 20) - 8192, 1);
      mallctl("arena.4096.purge", NULL, NULL, NULL, 0);
      _exit(free_pages() > 1000);
    }
    int status = 1;
    waitpid(child, &status, 0);
    failed += status != 0;
  }
  printf("%d\n", failed);
  return failed != 0;
}

static int behind_filter(void) {
  struct stat threads;
  do usleep(100000);   // until there is a keeper, and its errands' thread
  while (getenv("LD_PRELOAD") && stat("/proc/self/task", &threads) == 0 && threads.st_nlink < 5);
  struct sock_filter steps[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_futex, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {4, steps};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) return 77;
  for (int i = 0; i < 40; i++) {
    fill_and_free();
    unsigned arena = new_arena();
    use_and_free(MALLOCX_ARENA(arena) | MALLOCX_TCACHE_NONE, 1, 65536, 1);
    destroy(arena);
  }
  _exit(0);   // of the rest of the process nothing is asked
}

int main(int count, char** arguments) {
  const char* what = count > 1 ? arguments[1] : "";
  if (strcmp(what, "trim") == 0) return destroy_while_trimming();
  if (strcmp(what, "hooks") == 0) return set_hooks();
  if (strcmp(what, "fork") == 0) return fork_and_purge();
  if (strcmp(what, "filter") == 0) return behind_filter();
  return 64;
}
