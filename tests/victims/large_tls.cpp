// 240 KiB of thread-local storage, which glibc takes out of each thread's stack. Lives for half a second.
#include <cstdlib>
#include <unistd.h>

thread_local volatile char storage[240 << 10];

int main() {
  storage[5] = 1;
  for (int i = 0; i < 50; i++) {
    free(malloc(100));
    usleep(10'000);
  }
  return 0;
}
