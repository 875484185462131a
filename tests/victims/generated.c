/* Calls malloc from code that it makes itself, as a JIT compiler does, names that in /tmp/perf-PID.map, says so, and lives until its input ends. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void* volatile kept;
__attribute__((noipa)) void site_called_by_generated(void) { kept = malloc(1234); }

int main(void) {
  static const unsigned char kCode[] = {0x55, 0x48, 0x89, 0xe5, 0xff, 0xd7, 0x5d, 0xc3};   /* push rbp; mov rbp, rsp; call rdi; pop rbp; ret */
  char* code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (code == MAP_FAILED) return 1;
  memcpy(code, kCode, sizeof kCode);
  char name[64], line[64], end;
  snprintf(name, sizeof name, "/tmp/perf-%d.map", getpid());
  FILE* map = fopen(name, "w");
  if (!map) return 2;
  fprintf(map, "%lx %zx made_just_now\n", (unsigned long)code, sizeof kCode);
  fclose(map);
  ((void (*)(void (*)(void)))code)(site_called_by_generated);
  snprintf(line, sizeof line, "ready\n");
  if (write(1, line, strlen(line)) < 0) return 3;
  while (read(0, &end, 1) > 0) {
  }
  unlink(name);
  return 0;
}
