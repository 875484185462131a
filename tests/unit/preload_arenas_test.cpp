// Arenas that the program made: purged with the others, unless its own functions get and give back their pages; and never while it destroys them.
#include <atomic>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "preload/base/jemalloc.h"
#include "preload/heap/allocator.h"
#include "preload/heap/dropped_arena.h"
#include "tests/unit/preload_fixture.h"

namespace tidemark {
namespace {

constexpr size_t kBlock = 64 << 10, kBlocks = 20;

// jemalloc's extent_hooks_t: nine functions, each of which may be absent but the first. It is all that is told apart here.
struct Hooks {
  void* (*alloc)(Hooks*, void*, size_t, size_t, bool*, bool*, unsigned);
  bool (*dalloc)(Hooks*, void*, size_t, bool, unsigned);
  void (*destroy)(Hooks*, void*, size_t, bool, unsigned);
  bool (*commit)(Hooks*, void*, size_t, size_t, size_t, unsigned);
  bool (*decommit)(Hooks*, void*, size_t, size_t, size_t, unsigned);
  bool (*purge_lazy)(Hooks*, void*, size_t, size_t, size_t, unsigned);
  bool (*purge_forced)(Hooks*, void*, size_t, size_t, size_t, unsigned);
  bool (*split)(Hooks*, void*, size_t, size_t, size_t, bool, unsigned);
  bool (*merge)(Hooks*, void*, size_t, void*, size_t, bool, unsigned);
};
std::atomic<int> purges{0};
bool count_purge(Hooks*, void*, size_t, size_t, size_t, unsigned) {
  purges++;
  return true;   // refused
}
bool count_return(Hooks*, void*, size_t, bool, unsigned) {
  purges++;
  return true;
}
void* map(Hooks*, void* wanted, size_t bytes, size_t alignment, bool* zero, bool* commit, unsigned) {
  void* p = wanted ? nullptr : aligned_alloc(alignment, bytes);
  if (p && *zero) memset(p, 0, bytes);
  *commit = true;
  return p;
}
Hooks own_hooks{map, count_return, nullptr, nullptr, nullptr, count_purge, count_purge, nullptr, nullptr};

class Arena {
 public:
  explicit Arena(Hooks* hooks = nullptr) {
    size_t length = sizeof(index_);
    EXPECT_EQ(0, tmje_mallctl("arenas.create", &index_, &length, hooks ? &hooks : nullptr, hooks ? sizeof(hooks) : 0));
  }
  ~Arena() {
    auto destroy = [](void* arena) { return tmje_mallctl(static_cast<Arena*>(arena)->name("destroy").c_str(), nullptr, nullptr, nullptr, 0); };
    EXPECT_EQ(0, heap::drop_arena(index_, destroy, this));
  }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  void make_free_pages() {
    std::vector<void*> blocks;
    for (size_t i = 0; i < kBlocks; i++) blocks.push_back(memset(tmje_mallocx(kBlock, jemalloc::arena(index_) | jemalloc::kNoTcache), 1, kBlock));
    for (void* p : blocks) tmje_dallocx(p, jemalloc::kNoTcache);
  }
  size_t free_bytes() const {
    EXPECT_TRUE(heap::refresh_statistics());
    size_t pages = 0, length = sizeof(pages);
    EXPECT_EQ(0, tmje_mallctl(("stats.arenas." + std::to_string(index_) + ".pdirty").c_str(), &pages, &length, nullptr, 0));
    return pages * format::kPageBytes;
  }

 private:
  std::string name(const char* what) const { return "arena." + std::to_string(index_) + "." + what; }
  unsigned index_ = 0;
};

class ArenasTest : public CoreTest {
 protected:
  void TearDown() override {
    heap::stop_decay();
    CoreTest::TearDown();
  }
};

TEST_F(ArenasTest, ProgramsOwnAreLookedAfter) {
  Arena arena;
  arena.make_free_pages();
  EXPECT_GE(arena.free_bytes(), kBlocks * kBlock);
  heap::purge_allocator();
  EXPECT_EQ(0u, arena.free_bytes());
  heap::decay_allocator();
  EXPECT_TRUE(tmje_decay_is_called) << "so the end of a thread needs not";
}

TEST_F(ArenasTest, ProgramsFunctionsAreNotCalledFromOurThreads) {
  {
    Arena arena(&own_hooks);
    arena.make_free_pages();
    size_t before = arena.free_bytes();
    EXPECT_GE(before, kBlocks * kBlock);
    purges = 0;
    heap::set_decay(0, 0);
    heap::purge_allocator();
    heap::decay_allocator();
    heap::set_decay(10000, 0);
    EXPECT_EQ(0, purges);
    EXPECT_EQ(before, arena.free_bytes());
    EXPECT_FALSE(tmje_decay_is_called) << "the last thread that is bound to this arena has to see to its pages itself";
  }
  EXPECT_GT(purges, 0) << "but the program's thread did, when it destroyed the arena";
}

TEST_F(ArenasTest, NoneGoesWhileItIsPurged) {
  heap::refresh_statistics();
  std::atomic<bool> over{false};
  std::thread keeper([&] {
    while (!over) heap::purge_allocator();
  });
  for (int i = 0; i < 300; i++) Arena().make_free_pages();
  over = true;
  keeper.join();
}

}  // namespace
}  // namespace tidemark
