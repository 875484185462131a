// Fingerprints of made-up words, and the table of stacks that are known by them.
#include <cstring>
#include <random>
#include <set>
#include <type_traits>
#include <vector>

#include "preload/stacks/fingerprint.h"
#include "preload/stacks/known_stacks.h"
#include "tests/unit/preload_fixture.h"

namespace tidemark {
namespace {
using namespace stacks;

// ---------------------------------------------------------------- fingerprints of made-up words
using Sums = testing::Types<AesSum, ProductSum>;
template <class Sum>
class FingerprintTest : public testing::Test {
 protected:
  static constexpr uint32_t kWords = 64;
  address words_[kWords];
  address sp() const { return reinterpret_cast<address>(words_); }

  void SetUp() override {
    if (std::is_same_v<Sum, AesSum> && !__builtin_cpu_supports("aes")) GTEST_SKIP() << "this processor has no AES";
    for (uint32_t i = 0; i < kWords; i++) words_[i] = 0x7f0000001000 + i * 0x1234;
  }
  template <Words kind>
  bool add(Sum& sum, const std::vector<uint64_t>& slots, uint64_t most) {
    return sum.template add<kind>(slots.data(), 0, slots.size(), sp(), most);
  }
  // The fingerprint of a layout of one kind.
  template <Words kind = Words::kReturns>
  uint64_t of(const std::vector<uint64_t>& slots) {
    Sum sum(0);
    auto n = uint32_t(slots.size());
    EXPECT_TRUE(add<kind>(sum, slots, most()));
    return fingerprint_of(sum.value(), layout_hash(slots.data(), n, kind == Words::kReturns ? n : kind == Words::kChained ? n << 6 : n << 12));
  }
  uint64_t most() const { return kWords - 1; }
  address* words() { return words_; }
};
class SumNames {
 public:
  template <class Sum>
  static std::string GetName(int) { return std::is_same_v<Sum, AesSum> ? "Aes" : "Products"; }
};
TYPED_TEST_SUITE(FingerprintTest, Sums, SumNames);

TYPED_TEST(FingerprintTest, AnyWordThatDiffersShows) {
  const std::vector<uint64_t> slots{make_slot(1, 3, 7, 13), make_slot(15, 19, 25, 25)};
  uint64_t before = this->of(slots);
  for (uint32_t at : {1u, 3u, 7u, 13u, 15u, 19u, 25u})
    for (uint32_t bit = 0; bit < 48; bit++) {
      this->words()[at] ^= uint64_t{1} << bit;
      EXPECT_NE(before, this->of(slots)) << "word " << at << ", bit " << bit;
      this->words()[at] ^= uint64_t{1} << bit;
    }
  this->words()[2] = this->words()[4] = 0;
  EXPECT_EQ(before, this->of(slots)) << "words that are not the layout's";
}

TYPED_TEST(FingerprintTest, InAChainTheWordBeforeCountsToo) {
  const std::vector<uint64_t> slots{make_slot(2, 4, 8, 14), make_slot(16, 20, 26, 26)};
  uint64_t before = this->template of<Words::kChained>(slots);
  EXPECT_NE(before, this->of(slots));
  for (uint32_t at : {2u, 4u, 8u, 14u, 16u, 20u, 26u})
    for (uint32_t back : {0u, 1u})
      for (uint32_t bit = 0; bit < 48; bit++) {
        this->words()[at - back] ^= uint64_t{1} << bit;
        EXPECT_NE(before, this->template of<Words::kChained>(slots)) << "word " << at - back << ", bit " << bit;
        this->words()[at - back] ^= uint64_t{1} << bit;
      }
  this->words()[5] = this->words()[6] = 0;
  EXPECT_EQ(before, this->template of<Words::kChained>(slots));
}

TYPED_TEST(FingerprintTest, WordsThatChangePlacesShow) {
  const std::vector<uint64_t> slots{make_slot(0, 2, 4, 6), make_slot(8, 10, 12, 14)};
  uint64_t before = this->of(slots);
  for (uint32_t a = 0; a < 16; a += 2)
    for (uint32_t b = a + 2; b < 16; b += 2) {
      std::swap(this->words()[a], this->words()[b]);
      EXPECT_NE(before, this->of(slots)) << a << " and " << b;
      std::swap(this->words()[a], this->words()[b]);
    }
}

// Calls from two lines of a recursive function, the other way round: return addresses that differ in a byte or two. One change in 128 would show
// here if two states were to make the same of such a word.
TYPED_TEST(FingerprintTest, ReturnAddressesOfOneFunctionThatChangePlacesShow) {
  constexpr uint32_t kCalls = 16, kDraws = 2000;
  std::minstd_rand chance(7);
  std::vector<uint64_t> slots;
  for (uint64_t at = 1; at <= 2 * kCalls; at += 8) slots.push_back(make_slot(at, at + 2, at + 4, at + 6));
  uint32_t missed = 0;
  auto look = [&](auto fingerprint) {
    for (uint32_t draw = 0; draw < kDraws; draw++) {
      for (uint32_t i = 0; i < kCalls; i++) this->words()[2 * i + 1] = 0x555555400000 + (draw & 1 ? chance() & 0xff : chance() & 0xffff);
      uint64_t before = fingerprint();
      for (uint32_t a = 0; a < kCalls; a++)
        for (uint32_t b = 0; b < a; b++) {
          address &one = this->words()[2 * a + 1], &other = this->words()[2 * b + 1];
          if (one == other) continue;
          std::swap(one, other);
          missed += before == fingerprint();
          std::swap(one, other);
        }
    }
  };
  look([&] { return this->of(slots); });
  look([&] { return this->template of<Words::kChained>(slots); });
  look([&] { return this->template of<Words::kValues>(slots); });
  EXPECT_EQ(0u, missed);
}

// What a round of AES makes of one byte, the next word that goes into the same state could take back (FIPS 197, 5.1).
TYPED_TEST(FingerprintTest, WhatARoundMakesOfOneByteIsNotTakenBackByTheNextWord) {
  const std::vector<uint64_t> slots{make_slot(0, 2, 4, 6), make_slot(8, 10, 12, 14)};
  auto twice = [](uint64_t a) { return (a << 1 ^ (a & 0x80 ? 0x1b : 0)) & 0xff; };
  uint64_t before = this->of(slots);
  for (uint32_t first = 0; first < 16; first += 2)
    for (uint32_t second = 0; second < 16; second += 2)
      for (uint64_t a = 1; a < 256 && second != first; a++) {
        uint64_t column = twice(a) | a << 8 | a << 16 | (twice(a) ^ a) << 24;
        this->words()[first] ^= 1;
        this->words()[second] ^= column;
        EXPECT_NE(before, this->of(slots)) << first << ", " << second << ", " << a;
        this->words()[first] ^= 1;
        this->words()[second] ^= column;
      }
}

TYPED_TEST(FingerprintTest, EqualWordsElsewhereAreAnotherStack) {
  for (address& word : this->words_) word = 0x401000;
  EXPECT_NE(this->of({make_slot(1, 3, 7, 13)}), this->of({make_slot(1, 3, 7, 15)}));
  EXPECT_NE(this->of({make_slot(1, 1, 1, 1)}), this->of({make_slot(2, 2, 2, 2)}));
  EXPECT_NE(this->of({make_slot(1, 3, 7, 13)}), this->of({make_slot(1, 3, 7, 13), make_slot(13, 13, 13, 13)}));
}

TYPED_TEST(FingerprintTest, ItsHalvesKnowOfEveryWord) {
  const std::vector<uint64_t> slots{make_slot(0, 2, 4, 6), make_slot(8, 10, 12, 12)};
  std::set<uint32_t> low, high;
  for (uint32_t at = 0; at < 14; at += 2)
    for (uint32_t i = 0; i < 1000; i++) {
      this->words()[at] += 5;
      uint64_t h = this->of(slots);
      low.insert(uint32_t(h));
      high.insert(uint32_t(h >> 32));
    }
  EXPECT_GT(low.size(), 6990u);   // 7000 numbers of 32 bits: about 0.006 of them meet
  EXPECT_GT(high.size(), 6990u);
}

TYPED_TEST(FingerprintTest, NoWordBeyondTheStackIsRead) {
  TypeParam sum(0);
  constexpr uint64_t kLast = TestFixture::kWords - 1;
  const std::vector<uint64_t> slots{make_slot(0, 1, 2, 3), make_slot(kLast - 2, kLast - 1, kLast, kLast)}, far{make_slot(0, 1, 2, UINT16_MAX)};
  EXPECT_TRUE(this->template add<Words::kReturns>(sum, slots, kLast));
  EXPECT_FALSE(this->template add<Words::kReturns>(sum, slots, kLast - 1));
  EXPECT_FALSE(this->template add<Words::kChained>(sum, slots, kLast - 1));
  EXPECT_FALSE(this->template add<Words::kValues>(sum, far, kLast));
}

TYPED_TEST(FingerprintTest, ValuesAreRelative) {
  TypeParam here(0), there(0);
  const uint64_t slot = make_slot(0, 1, 3, 6);
  constexpr uint32_t kWords = TestFixture::kWords;
  address copy[kWords];
  for (uint32_t i = 0; i < kWords; i++) {
    this->words()[i] = this->sp() + i * 16;
    copy[i] = reinterpret_cast<address>(copy) + i * 16;
  }
  EXPECT_TRUE(here.template add<Words::kValues>(&slot, 0, 1, this->sp(), this->most()));
  EXPECT_TRUE(there.template add<Words::kValues>(&slot, 0, 1, reinterpret_cast<address>(copy), this->most()));
  EXPECT_EQ(here.value(), there.value());
}

TEST(FactorsTest, AreOddAndDiffer) {
  std::set<uint64_t> all;
  for (uint32_t i = 0; i < kMostSlots; i++)
    for (uint64_t factor : {kFactors.of[i].words[0], kFactors.of[i].words[1], kFactors.of[i].chained[0], kFactors.of[i].chained[1], kFactors.slots[i]}) {
      EXPECT_EQ(1u, factor & 1);
      all.insert(factor);
    }
  EXPECT_EQ(5u * kMostSlots, all.size());
}

// ---------------------------------------------------------------- known stacks
using KnownStacksTest = CoreTest;

uint64_t some_fingerprint(uint64_t n) { return fingerprint_of(n, 1); }

TEST_F(KnownStacksTest, ManyAreKnownAndNoOtherIs) {
  constexpr uint32_t kMany = 50000;
  for (uint32_t i = 0; i < kMany; i++) know_stack(some_fingerprint(i), i + 1, i);
  uint32_t lost = 0;
  for (uint32_t i = 0; i < kMany; i++) {
    uint32_t stack = known_stack(some_fingerprint(i));
    if (!stack) lost++;
    else ASSERT_EQ(i + 1, stack);
  }
  EXPECT_LT(lost, kMany / 10) << "sets that are full give some up";
  for (uint32_t i = kMany; i < 2 * kMany; i++) ASSERT_EQ(0u, known_stack(some_fingerprint(i)));
}

TEST_F(KnownStacksTest, AllBitsCount) {
  uint64_t fingerprint = some_fingerprint(1);
  know_stack(fingerprint, 77, 1);
  for (uint32_t bit = 0; bit < 64; bit++) EXPECT_EQ(0u, known_stack(fingerprint ^ uint64_t{1} << bit)) << bit;
  EXPECT_EQ(77u, known_stack(fingerprint));
  know_stack(fingerprint, 78, 1);
  EXPECT_EQ(78u, known_stack(fingerprint));
  forget_known_stacks();
  EXPECT_EQ(0u, known_stack(fingerprint));
}

}  // namespace
}  // namespace tidemark
