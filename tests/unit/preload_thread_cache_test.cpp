// What a thread's start and end cost in jemalloc: few blocks taken, and given back through its cache; no page given to the kernel that the next one needs.
#include <string>
#include <thread>
#include <vector>

#include "preload/base/jemalloc.h"
#include "preload/heap/allocator.h"
#include "preload/heap/magazines.h"
#include "tests/unit/preload_fixture.h"

namespace tidemark {
namespace {

template <class T>
T ask(const std::string& name) {
  T value{};
  size_t length = sizeof(value);
  EXPECT_EQ(0, tmje_mallctl(name.c_str(), &value, &length, nullptr, 0)) << name;
  return value;
}
// Over all arenas, as of now.
template <class T = size_t>
T statistic(const std::string& name) {
  EXPECT_TRUE(heap::refresh_statistics());
  return ask<T>("stats.arenas.4096." + name);
}
std::string bin_of(size_t bytes) {
  for (unsigned i = 0; i < ask<unsigned>("arenas.nbins"); i++)
    if (ask<size_t>("arenas.bin." + std::to_string(i) + ".size") == tmje_nallocx(bytes, 0)) return "bins." + std::to_string(i) + ".";
  return "";
}

class ThreadCacheTest : public CoreTest {
 protected:
  void TearDown() override {
    heap::stop_decay();
    CoreTest::TearDown();
  }
  // As one of the program's.
  template <class Act>
  void in_thread(Act act) {
    std::thread([&] {
      base::thread_state.generation = word_;
      base::thread_state.errno_at = &errno;
      heap::attach_thread();
      act();
    }).join();
  }
  static constexpr size_t kPages = 512;
  static constexpr size_t kCache = 16;   // of a thread's cache itself, which lies in the first arena
  // Once a thread that freed kPages of its arena has ended.
  size_t dirty_after_thread() {
    constexpr size_t kBlock = 64 << 10;
    in_thread([] {
      std::vector<void*> blocks;
      for (size_t bytes = 0; bytes < kPages * 4096; bytes += kBlock) blocks.push_back(tmje_malloc(kBlock));
      for (void* p : blocks) tmje_free(p);
    });
    return statistic("pdirty");
  }
};

TEST_F(ThreadCacheTest, TakesFewBlocksAtFirstAndMoreOfWhatIsAskedForOften) {
  constexpr size_t kBytes = 224;
  const std::string bin = bin_of(kBytes);
  in_thread([&] {
    size_t before = statistic(bin + "curregs");
    std::vector<void*> blocks{tmje_malloc(kBytes)};
    EXPECT_LE(statistic(bin + "curregs") - before, 8u) << "blocks taken for one";
    uint64_t fills = statistic<uint64_t>(bin + "nfills");
    for (int i = 0; i < 1000; i++) blocks.push_back(tmje_malloc(kBytes));
    EXPECT_LE(statistic<uint64_t>(bin + "nfills") - fills, 4 + 1000 / 100u) << "16, 32, 64, then 100 at once";
    for (void* p : blocks) tmje_free(p);
  });
}

TEST_F(ThreadCacheTest, TakesWhatMagazinesKeptWhenTheThreadEnds) {
  constexpr size_t kBytes = 48, kBlocks = 16;
  const std::string bin = bin_of(kBytes);
  uint64_t locked = 0;
  in_thread([&] {
    std::vector<void*> blocks;
    for (size_t i = 0; i < kBlocks; i++) blocks.push_back(heap::allocate(kBytes, HERE));
    for (void* p : blocks) heap::release(p);
    EXPECT_EQ(kBlocks, heap::rounds_held(base::thread_state, heap::kMagazineTables.of_size8[kBytes / 8]));
    locked = statistic<uint64_t>(bin + "mutex.num_ops");
  });
  EXPECT_LT(statistic<uint64_t>(bin + "mutex.num_ops") - locked, kBlocks) << "all at once, not block by block";
}

TEST_F(ThreadCacheTest, ItsArenasPagesStayWhereTheyAreLookedAfter) {
  void* ours = tmje_malloc(1);   // this thread has the first arena
  size_t before = statistic("pdirty");
  EXPECT_LE(dirty_after_thread(), before + kCache) << "nobody would give them back";
  heap::decay_allocator();
  EXPECT_GE(dirty_after_thread(), kPages);
  heap::stop_decay();
  EXPECT_LE(dirty_after_thread(), before + kCache) << "those of before, too";
  tmje_free(ours);
}

}  // namespace
}  // namespace tidemark
