// dlopen as its callers see it. Built twice: as the program, and with FINDER as a library of a folder of its own, whose RUNPATH
// leads to what it opens by a bare name.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef FINDER
void* find(void) {
  void* volatile found = dlopen("libapi_found.so", RTLD_NOW);  // no tail call: this frame is the caller that counts
  return found;
}
#elif defined(FOUND)
char* duplicate(const char* text) { return strdup(text); }
#else

int main(int count, char** argument) {
  void* finder = dlopen(count > 1 ? argument[1] : "nothing", RTLD_NOW);
  if (finder == NULL) return printf("%s\n", dlerror()), 1;
  void* (*find)(void) = (void* (*)(void))dlsym(finder, "find");
  printf("by the program: %s\n", dlopen("libapi_found.so", RTLD_NOW) == NULL ? "not found" : "found");
  void* found = find();
  printf("by a library with RUNPATH: %s\n", found == NULL ? "not found" : "found");
  if (found == NULL) return 1;
  char path[4096];
  snprintf(path, sizeof(path), "%.*s/found/libapi_found.so", (int)(strrchr(argument[1], '/') - argument[1]), argument[1]);
  dlclose(found);
  found = dlopen(path, RTLD_NOW | RTLD_DEEPBIND);  // a malloc of its own libc, and the free of ours
  char* (*duplicate)(const char*) = (char* (*)(const char*))dlsym(found, "duplicate");
  for (int i = 0; i < 1000; i++) free(duplicate("deepbind"));
  printf("deepbind: %d\n", dlclose(found));
  dlopen("libno-such-library.so", RTLD_NOW);
  printf("%s\n", dlerror());
  return 0;
}
#endif
