#include <alloca.h>
#include <dlfcn.h>
#include <execinfo.h>
#include <link.h>
#include <sys/mman.h>

#include <algorithm>
#include <set>
#include <vector>

#include "preload/stacks/lookup.h"
#include "preload/stacks/modules.h"
#include "preload/stacks/walk.h"
#include "tests/unit/preload_fixture.h"

namespace tidemark {
namespace {
using namespace format;

__attribute__((noinline)) uint32_t leaf_by_walk() {
  Caller c = HERE;
  return stacks::walk(c.pc, c.sp, c.rbp);
}
__attribute__((noinline)) uint32_t leaf_by_lookup() {
  stacks::Lookup k = stacks::begin_lookup(HERE);
  uint32_t stack = stacks::find_stack(k);
  return base::line<StackRecord>(stack)->leaf_and_kind & 0xffffff;
}
__attribute__((noinline)) uint32_t deeper(int depth, uint32_t (*leaf)()) {
  uint32_t id = depth ? deeper(depth - 1, leaf) : leaf();
  asm volatile("");
  return id;
}

std::vector<address> path(uint32_t leaf, bool& cut) {
  std::vector<address> pcs(4096);
  uint32_t trusted;
  pcs.resize(stacks::frames_of(leaf, pcs.data(), 4096, cut, trusted));
  return pcs;
}

TEST_F(CoreTest, AWalkFindsWhatBacktraceFinds) {
  bool cut;
  std::vector<address> ours = path(leaf_by_walk(), cut);
  void* theirs[256];
  int n = backtrace(theirs, 256);
  EXPECT_FALSE(cut);
  ASSERT_EQ(size_t(n), ours.size());
  for (int i = 1; i < n; i++) EXPECT_EQ(reinterpret_cast<address>(theirs[i]), ours[size_t(i)]) << i;   // [0]: another line of this one
}

// Leaves of stacks of 0..59 recursions, all from one call site.
__attribute__((noinline)) std::vector<uint32_t> leaves_by_depth(uint32_t (*leaf)()) {
  std::vector<uint32_t> leaves;
  for (volatile int depth = 0; depth < 60; depth = depth + 1) leaves.push_back(deeper(depth, leaf));
  return leaves;
}

// By a walk, then three times by look-up.
struct Leaves {
  std::vector<uint32_t> of[4];
  uint64_t misses;
};
Leaves leaves_in_turn() {
  Leaves leaves;
  uint64_t before = base::header().coverage[kCacheMisses];
  for (volatile int i = 0; i < 4; i = i + 1) leaves.of[i] = leaves_by_depth(i == 0 ? leaf_by_walk : leaf_by_lookup);
  leaves.misses = base::header().coverage[kCacheMisses] - before;
  return leaves;
}
// The same, further in by some more kilobytes: other places.
__attribute__((noinline)) Leaves leaves_elsewhere(size_t bytes) {
  volatile char* room = static_cast<volatile char*>(alloca(bytes));
  room[0] = 0;
  Leaves leaves = leaves_in_turn();
  room[0] = 1;
  return leaves;
}

TEST_F(CoreTest, TheCacheGivesWhatAWalkGives) {
  uint64_t fewest = UINT64_MAX;   // nine stacks may share a set by chance, for addresses are random: one process in 1500
  for (volatile size_t i = 0; i < 3; i = i + 1) {
    Leaves leaves = leaves_elsewhere(16 + i * 3760);
    fewest = std::min(fewest, leaves.misses);
    EXPECT_EQ(leaves.of[1], leaves.of[2]);
    EXPECT_EQ(leaves.of[1], leaves.of[3]);
    bool cut;
    for (size_t d = 0; d < 60; d++) EXPECT_EQ(path(leaves.of[0][d], cut).size(), path(leaves.of[1][d], cut).size());
    EXPECT_EQ(path(leaves.of[1][10], cut).size() + 40, path(leaves.of[1][50], cut).size());
    std::sort(leaves.of[1].begin(), leaves.of[1].end());
    EXPECT_EQ(leaves.of[1].end(), std::unique(leaves.of[1].begin(), leaves.of[1].end()));
  }
  EXPECT_LE(fewest, 60u);
}

// 64 stacks that come to leaf_by_lookup at one place, by one of two calls at each of six steps: more than a place's guesses hold.
__attribute__((noinline)) uint32_t by_turns(uint32_t turns, uint32_t left, uint32_t (*leaf)()) {
  if (!left) return leaf();
  uint32_t id;
  if (turns & 1) {
    id = by_turns(turns >> 1, left - 1, leaf);
    asm volatile("# one");
  } else {
    id = by_turns(turns >> 1, left - 1, leaf);
    asm volatile("# other");
  }
  return id;
}
__attribute__((noinline)) std::vector<uint32_t> leaves_of_one_place(size_t bytes) {
  [[maybe_unused]] volatile char* room = static_cast<volatile char*>(alloca(bytes));
  std::vector<uint32_t> leaves;
  for (volatile uint32_t turns = 0; turns < 64; turns = turns + 1) leaves.push_back(by_turns(turns, 6, leaf_by_lookup));
  return leaves;
}

TEST_F(CoreTest, StacksOfOnePlaceAreFoundWithoutAWalk) {
  ASSERT_EQ(nullptr, base::thread_state.path);   // as on a coroutine's stack
  uint64_t fewest = UINT64_MAX;   // see above
  for (volatile size_t i = 0; i < 3; i = i + 1) {
    std::vector<uint32_t> leaves[9];
    uint64_t known_from = 0;
    for (volatile size_t round = 0; round < 9; round = round + 1) {
      leaves[round] = leaves_of_one_place(16 + i * 3760);
      if (!round) known_from = base::header().coverage[kCacheMisses];
    }
    fewest = std::min(fewest, base::header().coverage[kCacheMisses] - known_from);
    for (const auto& again : leaves) EXPECT_EQ(leaves[0], again);
    EXPECT_EQ(64u, std::set<uint32_t>(leaves[0].begin(), leaves[0].end()).size());
  }
  EXPECT_LE(fewest, 64u);   // of 512: some are lost to others, or are further than a look-up goes
}

TEST_F(CoreTest, ADeepStackIsCutAndSaysSo) {
  bool cut;
  std::vector<address> pcs = path(deeper(3000, leaf_by_walk), cut);
  EXPECT_TRUE(cut);
  EXPECT_GE(pcs.size(), stacks::kMinDepth);
  EXPECT_LE(pcs.size(), stacks::kMaxDepth);
}

// Frames of 4 KiB.
__attribute__((noinline)) uint32_t deeper_by_pages(int depth, uint32_t (*leaf)()) {
  [[maybe_unused]] volatile char page[4096];
  page[0] = 0;
  uint32_t id = depth ? deeper_by_pages(depth - 1, leaf) : leaf();
  page[1] = 1;
  return id;
}

// The outermost frame lies where the walk before it had a large one.
TEST_F(CoreTest, AWalkLeavesNothingToTheNext) {
  uint32_t leaves[2];
  for (volatile int i = 0; i < 2; i = i + 1) {
    stacks::empty_caches();   // so that it goes all the way
    leaves[i] = deeper(3, leaf_by_walk);
    stacks::empty_caches();
    deeper_by_pages(100, leaf_by_walk);
  }
  EXPECT_EQ(leaves[0], leaves[1]);
}

// A made-up stack in two pages, with none behind them; every word holds the one pc of all frames.
class MadeUpStack {
 public:
  static constexpr address kPc = 0x5000, kBytes = 8192;
  MadeUpStack() {
    memory_ = mmap(nullptr, 2 * kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(static_cast<char*>(memory_) + kBytes, kBytes);
    std::fill_n(static_cast<address*>(memory_), kBytes / 8, kPc);
  }
  ~MadeUpStack() { munmap(memory_, kBytes); }
  address low() const { return reinterpret_cast<address>(memory_); }
  address top() const { return low() + kBytes; }

 private:
  void* memory_;
};

// Six frames of this kind that lead to a stack's end by a cut, the middle one of `bytes`.
uint32_t group_with(uint64_t bytes, uint16_t rule) {
  Node n{};
  for (auto& word : n.words) word = MadeUpStack::kPc | uint64_t{2} << 48;
  n.words[3] = MadeUpStack::kPc | bytes / 8 << 48;
  n.caller = kCutNode;
  n.rule = rule;
  return put_node(n);
}

TEST_F(CoreTest, NoFrameIsFollowedBeyondItsStack) {
  MadeUpStack stack;
  base::ThreadState& t = base::thread_state;
  stacks::Difference at;
  address rbp = 0;
  uint32_t leaf = group_with(4096, 0), small = group_with(1024, 0);
  for (bool bounds_known : {true, false}) {
    t.set_stack(bounds_known ? stack.low() : 0, bounds_known ? stack.top() : 0);
    EXPECT_TRUE(stacks::prove(leaf, MadeUpStack::kPc, stack.low() + 64, &rbp, at));
    EXPECT_TRUE(stacks::prove(leaf, MadeUpStack::kPc, stack.top() - 4096 - 5 * 16, &rbp, at)) << "the last word is the stack's last";
    EXPECT_FALSE(stacks::prove(leaf, MadeUpStack::kPc, stack.top() - 2048, &rbp, at));
    EXPECT_TRUE(stacks::prove(small, MadeUpStack::kPc, stack.top() - 1024 - 5 * 16, &rbp, at));
    EXPECT_FALSE(stacks::prove(small, MadeUpStack::kPc, stack.top() - 512, &rbp, at));
  }
  address rbp_that_agrees = stack.top() - 64 + 4096 - 16;
  EXPECT_FALSE(stacks::prove(group_with(4096, kRuleFramePointerGroup), MadeUpStack::kPc, stack.top() - 64, &rbp_that_agrees, at));
}

// What a register holds may be any number, and its end may be beyond the last address.
TEST_F(CoreTest, TheEndOfTheAddressSpaceIsNoStack) {
  MadeUpStack stack;
  base::thread_state.set_stack(stack.low(), stack.top());
  for (address bytes = 1; bytes <= 16; bytes++) EXPECT_FALSE(stacks::may_read(-bytes, stack.low() + 64)) << bytes;
  EXPECT_TRUE(stacks::may_read(stack.top() - 8, stack.low() + 64));
  EXPECT_FALSE(stacks::may_read(stack.top() - 7, stack.low() + 64));
}

TEST_F(CoreTest, EqualNodesAreOne) {
  Node a{}, b{};
  for (uint32_t i = 0; i < kFramesPerNode; i++) a.words[i] = b.words[i] = (0x5000 + i) | uint64_t{3} << 48;
  uint32_t id = put_node(a);
  EXPECT_EQ(id, put_node(b));
  b.generation = 1;
  EXPECT_NE(id, put_node(b));
  Node c = a;
  c.caller = id;
  c.generation = 0;
  EXPECT_NE(id, put_node(c));
}

// Most are found in the line behind their caller's, some by the index: where a page begins, and where the line behind is another's.
TEST_F(CoreTest, NodesAreFoundBesideTheirCallersAndElsewhere) {
  constexpr uint32_t kLength = 3 * kLinesPerPage;
  std::vector<Node> chain;
  std::vector<uint32_t> ids;
  auto add = [&](uint32_t caller, uint64_t pc) {
    Node n{};
    for (auto& word : n.words) word = pc | uint64_t{3} << 48;
    n.caller = caller;
    ids.push_back(put_node(n));
    chain.push_back(n);
  };
  for (uint32_t i = 0; i < kLength; i++) add(i ? ids.back() : kRootNode, 0x5000 + i);
  for (uint32_t i = 0; i < kLength; i += 5) add(ids[i], 0x9000);
  EXPECT_EQ(chain.size(), std::set<uint32_t>(ids.begin(), ids.end()).size());
  uint32_t count = stacks::node_count();
  for (size_t i = 0; i < chain.size(); i++) EXPECT_EQ(ids[i], put_node(chain[i])) << i;
  EXPECT_EQ(count, stacks::node_count());
}

TEST_F(CoreTest, APathsHashTellsOrderAndDepthApart) {
  constexpr uint64_t kWords[] = {0x5555'5555'0100 | uint64_t{2} << 48, 0x5555'5555'0180 | uint64_t{2} << 48, 0x7fff'f7dd'0042 | uint64_t{9} << 48};
  std::set<uint64_t> hashes;
  auto hash_of = [](std::initializer_list<uint64_t> words) {
    stacks::PathHash hash = stacks::path_hash(kRootNode, nullptr, 0);
    for (uint64_t word : words) hash.add(word);
    return hash.sum;
  };
  for (uint64_t a : kWords) {
    hashes.insert(hash_of({a}));
    for (uint64_t b : kWords) {
      hashes.insert(hash_of({a, b}));
      for (uint64_t c : kWords) hashes.insert(hash_of({a, b, c}));
    }
  }
  EXPECT_EQ(3u + 9u + 27u, hashes.size());
  EXPECT_NE(stacks::path_hash(kRootNode, nullptr, 0).sum, stacks::path_hash(kCutNode, nullptr, 0).sum);
}

// Sums of which the lower bits say little, as of stacks that differ in a few frames, are spread all the same.
TEST_F(CoreTest, HashesOfAnySumsAreSpread) {
  for (unsigned step : {1u, 8u, 16u, 32u, 40u, 56u}) {
    std::set<uint32_t> low, high;
    for (uint64_t i = 0; i < 256; i++) {
      uint64_t hash = stacks::hash_of_sum(0xA0761D6478BD642F + (i << step));
      low.insert(hash & 255);
      high.insert(hash >> 24 & 255);
    }
    EXPECT_GT(low.size(), 128u) << step;   // of random ones 162
    EXPECT_GT(high.size(), 128u) << step;
  }
}

TEST_F(CoreTest, TheCutIsInherited) {
  Node outer{}, inner{};
  outer.words[5] = 0x5000;
  outer.caller = kCutNode;
  inner.words[5] = 0x6000;
  inner.caller = put_node(outer);
  uint32_t id = put_node(inner);
  EXPECT_TRUE(base::line<Node>(id)->generation & kNodeCut);
}

TEST_F(CoreTest, AFullRegionGivesTheOverflowStack) {
  base::header().overflow_stack = base::take_stack();
  while (base::take_lines(PageKind::kStacks, 1)) {}
  while (base::take_lines(PageKind::kNodes, 1)) {}
  stacks::Lookup k = stacks::begin_lookup(HERE);
  EXPECT_EQ(base::header().overflow_stack, stacks::find_stack(k));
}

TEST_F(CoreTest, PlainRulesAreWholeAgainAndGoWithTheirModule) {
  void* pcs[64];
  int n = backtrace(pcs, 64), plain = 0;
  for (int i = 0; i < n; i++) {
    auto pc = reinterpret_cast<address>(pcs[i]);
    stacks::Rule rule = stacks::rule_of(pc);
    uint32_t short_form = stacks::plain_rule(rule);
    if (!short_form) continue;
    plain++;
    EXPECT_EQ(rule, stacks::whole_rule(short_form));
    stacks::remember_rule(pc, short_form);
    EXPECT_EQ(short_form, stacks::recent_rule(pc));
    stacks::drop_rules(pc - 1, pc);
    EXPECT_EQ(0u, stacks::recent_rule(pc));
    stacks::remember_rule(pc, short_form);
    EXPECT_EQ(0u, stacks::recent_rule(pc)) << "its module is gone";
  }
  EXPECT_GT(plain, 0);
}

__attribute__((noinline)) address return_to_an_alloca_frame(size_t bytes) {
  auto* room = static_cast<volatile char*>(alloca(bytes));
  room[0] = 0;
  void* pcs[2] = {};
  int n = backtrace(pcs, 2);
  room[0] = 1;
  return n == 2 ? reinterpret_cast<address>(pcs[0]) : 0;
}

TEST_F(CoreTest, AFrameOfManySizesIsNoLongerPlain) {
  address pc = return_to_an_alloca_frame(16);
  stacks::Rule rule = stacks::rule_of(pc);
  ASSERT_TRUE(stacks::is_frame_pointer_rule(rule));
  uint32_t plain = stacks::plain_rule(rule);
  stacks::remember_rule(pc, plain);
  for (int i = 0; i < 1000; i++) stacks::note_size(pc, 7);
  EXPECT_EQ(rule, stacks::rule_of(pc));
  EXPECT_EQ(plain, stacks::recent_rule(pc));
  for (uint64_t words = 8; words < 1000; words++) stacks::note_size(pc, words);
  EXPECT_EQ(rule | stacks::kSizeVaries, stacks::rule_of(pc));
  EXPECT_EQ(0u, stacks::recent_rule(pc));
  stacks::remember_rule(pc, plain);
  EXPECT_EQ(0u, stacks::recent_rule(pc)) << "who read the rule before may say so later";
  EXPECT_EQ(0u, stacks::plain_rule(stacks::rule_of(pc)));
  stacks::drop_rules(pc - 1, pc);
  EXPECT_EQ(rule, stacks::rule_of(pc)) << "other code may come there";
  for (uint64_t words = 8; words < 12; words++) stacks::note_size(pc, words);
  EXPECT_EQ(rule, stacks::rule_of(pc)) << "a few sizes are as many stacks";
}

TEST_F(CoreTest, SizesOfOtherFramesChangeNoRule) {
  void* pcs[64];
  for (int i = backtrace(pcs, 64); i--;) {
    auto pc = reinterpret_cast<address>(pcs[i]);
    stacks::Rule rule = stacks::rule_of(pc);
    if (stacks::is_frame_pointer_rule(rule)) continue;
    for (uint64_t words = 8; words < 1000; words++) stacks::note_size(pc, words);
    EXPECT_EQ(rule, stacks::rule_of(pc));
  }
}

// A server that loads a module again and again, each time somewhere else.
TEST_F(CoreTest, RulesOfModulesThatWentLeaveRoom) {
  auto code = reinterpret_cast<address>(&qsort);   // of libc, which has more of it than this looks at
  constexpr address kModule = 1000, kRounds = 200;
  uint64_t before = stacks::rule_table.load()->size();
  for (address start = code; start < code + kRounds * kModule; start += kModule) {
    for (address pc = start + 1; pc <= start + kModule; pc++) stacks::rule_of(pc, false);
    stacks::drop_rules(start, start + kModule);
    EXPECT_FALSE(stacks::has_rules(start, start + kModule));
  }
  EXPECT_LE(stacks::rule_table.load()->size(), std::max<uint64_t>(before, 8192));
}

TEST_F(CoreTest, RulesOfThisBinaryAreUnderstood) {
  void* pcs[64];
  int n = backtrace(pcs, 64);
  for (int i = 0; i < n; i++) {
    uint16_t kind = stacks::kind_of(stacks::rule_of(reinterpret_cast<address>(pcs[i])));
    EXPECT_TRUE(kind == kRuleRsp || kind == kRuleRbp || kind == kRuleEnd || kind == kRuleDeref) << i << " " << kind;
  }
}

// As the loader would have them, each a page somewhere in one mapping. What a module's header says does not matter here.
class Modules : public CoreTest {
 protected:
  static constexpr uint32_t kPages = 6000;   // more than are known at a time
  void SetUp() override {
    CoreTest::SetUp();
    start_ = reinterpret_cast<address>(base::map_private(kPages * kPageBytes));
    maps_.resize(kPages);
  }
  void TearDown() override {
    for (uint32_t i = 0; i < kPages; i++) unload(i);
    base::unmap(reinterpret_cast<void*>(start_), kPages * kPageBytes);
    CoreTest::TearDown();
  }
  address at(uint32_t page) const { return start_ + page * kPageBytes + 100; }
  void load(uint32_t page, uint32_t pages = 1) {
    dl_find_object o{};
    o.dlfo_map_start = reinterpret_cast<void*>(start_ + page * kPageBytes);
    o.dlfo_map_end = reinterpret_cast<void*>(start_ + (page + pages) * kPageBytes);
    o.dlfo_link_map = &maps_[page];
    stacks::note_module(o);
  }
  void unload(uint32_t page) { stacks::note_link_map_freed(&maps_[page]); }

  address start_ = 0;
  std::vector<link_map> maps_;
};

TEST_F(Modules, GenerationsAreTheirOwn) {
  load(0), load(1, 2);
  unload(0);
  uint32_t gone = stacks::generation_at(at(0)), other = stacks::generation_at(at(1));
  EXPECT_EQ(other, stacks::generation_at(at(2))) << "asked on two pages";
  load(0);
  uint32_t again = stacks::generation_at(at(0));
  EXPECT_GT(again, gone) << "after other code";
  EXPECT_EQ(again, stacks::generation_at(at(0)));
  unload(1);
  EXPECT_GT(stacks::generation_at(at(1)), again) << "code without a module";
  load(2);   // on a page that the one before had
  EXPECT_GT(stacks::generation_at(at(2)), stacks::generation_at(at(1)));
  EXPECT_EQ(again, stacks::generation_at(at(0)));
}

TEST_F(Modules, GenerationsOfManyThatTookOthersPlaces) {
  std::vector<uint32_t> seen(kPages);
  for (uint32_t i = 0; i < kPages; i++) {
    load(i);
    seen[i] = stacks::generation_at(at(i));
    if (!i) continue;
    unload(i - 1);
    EXPECT_GE(stacks::generation_at(at(i - 1)), seen[i - 1]);
  }
  for (uint32_t i = 0; i + 1 < kPages; i++) {
    load(i);   // anew, in a place that another one has left
    uint32_t now = stacks::generation_at(at(i));
    EXPECT_GT(now, seen[i]) << i;
    EXPECT_EQ(now, stacks::generation_at(at(i)));
    unload(i);
  }
  EXPECT_EQ(seen[kPages - 1], stacks::generation_at(at(kPages - 1)));
}

TEST_F(CoreTest, ACacheGrowsByWhatIsPutThere) {
  auto sets = [] { return stacks::leaf_cache.load()->mask + 1; };
  auto tag = [](uint32_t i) { return i * 0x9E3779B1u | 1; };
  const uint32_t first = sets();
  for (uint32_t i = 0; i < 100; i++) stacks::cache_put(stacks::leaf_cache, tag(i), i + 1, 1'000'000);
  EXPECT_EQ(first, sets()) << "where paths tell most stacks, few come here";
  for (uint32_t i = 0; i < 20'000; i++) stacks::cache_put(stacks::leaf_cache, tag(i), i + 1, 1'000'000);
  EXPECT_LE(20'000u, sets() * 8);
  EXPECT_GE(40'000u * 2, sets() * 8);
  uint32_t found = 0;
  for (uint32_t i = 0; i < 20'000; i++) found += stacks::probe(stacks::leaf_cache.load(), tag(i)) == i + 1;
  EXPECT_LE(18'000u, found);
}

}  // namespace
}  // namespace tidemark
