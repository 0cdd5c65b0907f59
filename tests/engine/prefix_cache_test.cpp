#include "engine/prefix_cache.h"

#include <gtest/gtest.h>

#include <numeric>

namespace stamp {
namespace {

/// A cache of a few small pages.
KvCache small_cache(int64_t pages) {
  ModelConfig config;
  config.layers = 1;
  config.kv_heads = 1;
  config.head_dim = 8;
  return {config, {}, pages * kBlock};
}

std::vector<int32_t> block(int32_t first) {
  std::vector<int32_t> tokens(kBlock);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

/// Inserts a new page and lets go of it.
const PrefixCache::Node* keep(PrefixCache& prefixes, KvCache& cache, const PrefixCache::Node* parent,
                              int32_t first) {
  const int32_t page = cache.take();
  const PrefixCache::Node* node = prefixes.insert(parent, block(first), page);
  cache.give_back(page);
  return node;
}

TEST(PrefixCache, FindsAPageOnlyAfterTheSameTokens) {
  KvCache cache = small_cache(8);
  PrefixCache prefixes(cache);
  const auto* a = keep(prefixes, cache, nullptr, 0);
  const auto* ab = keep(prefixes, cache, a, 100);
  const auto* b = keep(prefixes, cache, nullptr, 100);
  EXPECT_EQ(prefixes.find(nullptr, block(0)), a);
  EXPECT_EQ(prefixes.find(a, block(100)), ab);
  EXPECT_EQ(prefixes.find(nullptr, block(100)), b);
  EXPECT_NE(ab->page, b->page);
  EXPECT_EQ(prefixes.find(b, block(0)), nullptr);
  EXPECT_EQ(prefixes.find(ab, block(100)), nullptr);
  std::vector<int32_t> other = block(0);
  other[63] = 7;
  EXPECT_EQ(prefixes.find(nullptr, other), nullptr);
}

TEST(PrefixCache, TheFirstPageOfTheSameTokensIsKept) {
  KvCache cache = small_cache(2);
  PrefixCache prefixes(cache);
  const int32_t first = cache.take(), second = cache.take();
  const auto* node = prefixes.insert(nullptr, block(0), first);
  EXPECT_EQ(prefixes.insert(nullptr, block(0), second), node);
  EXPECT_EQ(node->page, first);
  EXPECT_EQ(cache.holders(first), 2);
  EXPECT_EQ(cache.holders(second), 1);
}

TEST(PrefixCache, GivesUpTheLeastRecentlyUsedChainFromItsEnd) {
  KvCache cache = small_cache(6);
  PrefixCache prefixes(cache);
  const auto* a = keep(prefixes, cache, nullptr, 0);
  const auto* aa = keep(prefixes, cache, a, 1);
  const auto* b = keep(prefixes, cache, nullptr, 2);
  const auto* bb = keep(prefixes, cache, b, 3);
  prefixes.touch(bb);
  prefixes.touch(a);  // but not what follows it
  EXPECT_EQ(cache.free_pages(), 2);
  EXPECT_TRUE(prefixes.make_room(3));
  EXPECT_EQ(cache.free_pages(), 3);
  EXPECT_EQ(prefixes.find(a, block(1)), nullptr) << "the end of a's chain is the oldest";
  EXPECT_EQ(prefixes.find(b, block(3)), bb);
  EXPECT_TRUE(prefixes.make_room(5));
  EXPECT_EQ(prefixes.find(nullptr, block(0)), a);
  EXPECT_EQ(prefixes.find(nullptr, block(2)), nullptr);
  EXPECT_TRUE(prefixes.make_room(6));
  EXPECT_FALSE(prefixes.make_room(7));
  EXPECT_EQ(prefixes.pages(), 0);
  static_cast<void>(aa);
}

TEST(PrefixCache, LeavesPagesInUseAlone) {
  KvCache cache = small_cache(3);
  PrefixCache prefixes(cache);
  const auto* a = keep(prefixes, cache, nullptr, 0);
  keep(prefixes, cache, a, 1);
  PageTable user(cache);
  user.adopt(a->page);
  EXPECT_EQ(prefixes.idle_pages(), 1);
  EXPECT_FALSE(prefixes.make_room(3));
  EXPECT_EQ(cache.free_pages(), 2);
  EXPECT_EQ(prefixes.find(nullptr, block(0)), a);
  user.shrink(0);
  EXPECT_TRUE(prefixes.make_room(3));
}

TEST(PrefixCache, GivesItsPagesBackAtTheEnd) {
  KvCache cache = small_cache(3);
  {
    PrefixCache prefixes(cache);
    keep(prefixes, cache, keep(prefixes, cache, nullptr, 0), 1);
    EXPECT_EQ(cache.free_pages(), 1);
  }
  EXPECT_EQ(cache.free_pages(), 3);
}

TEST(PageTable, AnAdoptedPageIsGivenBackOnceByEachAndNotCut) {
  KvCache cache = small_cache(4);
  PageTable first(cache), second(cache);
  first.grow(100);
  first.settle();
  second.adopt(first.pages()[0]);
  EXPECT_EQ(second.pages()[0], first.pages()[0]);
  second.grow(70);
  second.settle();
  EXPECT_EQ(cache.free_pages(), 1);
  EXPECT_EQ(second.can_keep(30), 0) << "the other still reads it";
  EXPECT_EQ(second.can_keep(66), 66);
  second.shrink(0);
  EXPECT_EQ(cache.free_pages(), 2);
  EXPECT_EQ(first.can_keep(30), 30);
  first.shrink(0);
  EXPECT_EQ(cache.free_pages(), 4);
}

TEST(PageTable, APageCanBeReplacedByItsLike) {
  KvCache cache = small_cache(3);
  PageTable first(cache), second(cache);
  for (PageTable* table : {&first, &second}) {
    table->grow(64);
    table->settle();
  }
  second.replace(0, first.pages()[0]);
  EXPECT_EQ(second.pages()[0], first.pages()[0]);
  EXPECT_EQ(cache.free_pages(), 2);
}

}  // namespace
}  // namespace stamp
