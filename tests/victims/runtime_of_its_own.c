/* Compiled by the test with a sanitizer's static runtime, which has functions by a hundred names of libc's in the executable. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void* work(void* argument) {
  for (int i = 0; i < 20; i++) {
    free(strdup("x"));
    usleep(20000);
  }
  return argument;
}

int main(void) {
  pthread_t threads[2];
  for (int i = 0; i < 2; i++) pthread_create(threads + i, NULL, work, NULL);
  for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
  if (fork() == 0) {
    free(strdup("child"));
    _exit(0);
  }
  wait(NULL);
  return 4;
}
