// malloc + free pairs: by size, by depth of the stack, by threads, on a stack seen before and on one never seen. Run plain, and under what is
// to be measured. Time is of one pair with the calls that make the stack (plain's is the same, so differences count).
#include <benchmark/benchmark.h>

#include <cstdlib>

#include "two_ways.h"

namespace {

void pair(unsigned depth, unsigned long path, size_t size) {
  two_ways<0>(depth, path, [size] {
    void* block = malloc(size);
    benchmark::DoNotOptimize(block);
    free(block);
  });
}

constexpr unsigned kOwnFrames = 6;   // about, from main to here

void hit(benchmark::State& state) {
  unsigned depth = unsigned(state.range(0)) - kOwnFrames;
  size_t size = size_t(state.range(1));
  for (auto _ : state) pair(depth, 0, size);
}

// A few stacks that take turns: their inner frames are the same, so that no short key tells them apart.
void turns(benchmark::State& state) {
  unsigned depth = unsigned(state.range(0)) - kOwnFrames;
  unsigned long turn = 0;
  for (auto _ : state) {
    pair(depth, turn << (depth > 12 ? 8 : 0), 64);
    turn = (turn + 1) & 15;
  }
}

unsigned long random_bits(unsigned long& seed) {
  seed ^= seed << 13;
  seed ^= seed >> 7;
  return seed ^= seed << 17;
}

void miss(benchmark::State& state) {
  unsigned depth = unsigned(state.range(0)) - kOwnFrames;
  static unsigned long seed = 88172645463325252ul;
  for (auto _ : state) pair(depth, random_bits(seed), 64);
}

BENCHMARK(hit)->ArgNames({"depth", "size"})->ArgsProduct({{6, 14, 30, 62}, {64}});
BENCHMARK(hit)->ArgNames({"depth", "size"})->ArgsProduct({{14}, {16, 256, 1024, 8192, 65536}});
BENCHMARK(hit)->ArgNames({"depth", "size"})->Args({14, 64})->Threads(2)->Threads(4)->UseRealTime();
BENCHMARK(turns)->ArgName("depth")->Arg(14)->Arg(30);
BENCHMARK(miss)->ArgName("depth")->Arg(14)->Arg(30)->Iterations(60000);

}  // namespace

BENCHMARK_MAIN();
