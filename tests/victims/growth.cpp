// Does what it is told on standard input, a line each, and answers "ok": so that a test decides when memory grows and shrinks.
//   leak BYTES        in blocks of 4 KiB, written to
//   scatter BYTES     allocates twice as much in blocks of 512 bytes, and frees every other one
//   drop              frees all that was allocated
//   untouched BYTES   one block, never written to
//   quit
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

std::vector<void*> blocks;

void* allocate(size_t bytes) {
  void* block = malloc(bytes);
  memset(block, 1, bytes);
  return block;
}

void leak(size_t bytes) {
  for (size_t done = 0; done < bytes; done += 4096) blocks.push_back(allocate(4096));
}

void scatter(size_t bytes) {
  std::vector<void*> to_free;
  for (size_t done = 0; done < bytes; done += 512) {
    blocks.push_back(allocate(512));
    to_free.push_back(allocate(512));
  }
  for (void* block : to_free) free(block);
}

void drop() {
  for (void* block : blocks) free(block);
  blocks.clear();
}

}  // namespace

int main() {
  char line[128];
  puts("ok");
  fflush(stdout);
  while (fgets(line, sizeof(line), stdin)) {
    std::string command(line, strcspn(line, " \n"));
    size_t bytes = strtoull(line + command.size(), nullptr, 10);
    if (command == "leak") leak(bytes);
    else if (command == "scatter") scatter(bytes);
    else if (command == "drop") drop();
    else if (command == "untouched") blocks.push_back(malloc(bytes));
    else if (command == "quit") break;
    puts("ok");
    fflush(stdout);
  }
  return 0;
}
