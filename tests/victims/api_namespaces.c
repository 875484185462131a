// What the kernel refuses to a process of several threads, asked by one that has a single thread of its own. Every line printed
// must be the same with and without the shim.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void in_child(const char* name, int (*call)(void)) {
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    for (int i = 0; i < 100; i++) free(malloc(1000));
    usleep(200000);  // long enough to count as a process of its own
    const int result = call();
    printf("%s: %d %s\n", name, result, result == 0 ? "" : strerrorname_np(errno));
    fflush(stdout);
    _exit(0);
  }
  waitpid(child, NULL, 0);
}

static int leave_user_namespace(void) { return unshare(CLONE_NEWUSER); }
static int leave_mount_namespace(void) { return unshare(CLONE_NEWNS); }
static int be_single_threaded(void) { return unshare(CLONE_THREAD | CLONE_SIGHAND | CLONE_VM); }
static int join_own_mounts(void) { return setns(open("/proc/self/ns/mnt", O_RDONLY), 0); }
static int join_own_user(void) { return setns(open("/proc/self/ns/user", O_RDONLY), CLONE_NEWUSER); }
static int join_nothing(void) { return setns(-1, 0); }
static void* idle(void* argument) { return pause(), argument; }
static int with_a_thread(void) {
  pthread_t thread;
  pthread_create(&thread, NULL, idle, NULL);
  return unshare(CLONE_NEWUSER);
}

// As CPython counts its threads at os.fork().
static int threads(const char* mode) {
  char line[4096] = "";
  FILE* stat = fopen("/proc/self/stat", mode);
  const size_t length = fread(line, 1, sizeof(line) - 1, stat);
  fclose(stat);
  const char* field = strrchr(line, ')');
  for (int number = 2; number < 20; number++) field = strchr(field, ' ') + 1;
  int fields = 0;
  for (const char* p = strrchr(line, ')'); p != NULL; p = strchr(p + 1, ' ')) fields++;
  printf("stat: pid=%d fields=%d newline=%d threads=%d\n", atoi(line) == getpid(), fields, line[length - 1] == '\n', atoi(field));
  return 0;
}

int main(void) {
  usleep(200000);
  threads("r");
  threads("re");
  threads("rb");
  in_child("unshare user", leave_user_namespace);
  in_child("unshare mount", leave_mount_namespace);
  in_child("unshare thread", be_single_threaded);
  in_child("setns mount", join_own_mounts);
  in_child("setns user", join_own_user);
  in_child("setns nothing", join_nothing);
  in_child("unshare user with a thread", with_a_thread);
  for (int i = 0; i < 5; i++) in_child("again", be_single_threaded);
  printf("parent: %d\n", be_single_threaded());
  for (int i = 0; i < 20; i++) printf("parent again: %d\n", be_single_threaded());
  printf("setuid: %d\n", setuid(getuid()));
  threads("r");
  return 0;
}
