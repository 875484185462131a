/* Functions of its own by the names of libc's mutexes, as lock checkers have. Those behind them are found in its constructor: nobody calls earlier. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>

static int (*next_lock)(pthread_mutex_t*);
static int (*next_unlock)(pthread_mutex_t*);
static long locked;

__attribute__((constructor)) static void begin(void) {
  *(void**)&next_lock = dlsym(RTLD_NEXT, "pthread_mutex_lock");
  *(void**)&next_unlock = dlsym(RTLD_NEXT, "pthread_mutex_unlock");
}
int pthread_mutex_lock(pthread_mutex_t* mutex) {
  locked++;
  return next_lock(mutex);
}
int pthread_mutex_unlock(pthread_mutex_t* mutex) { return next_unlock(mutex); }

int main(void) {
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  pthread_mutex_lock(&mutex);
  pthread_mutex_unlock(&mutex);
  printf("%ld locks\n", locked);
  return 5;
}
