#include "engine/kv_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "kernels/error.h"

namespace stamp {
namespace {

ModelConfig shape(int64_t layers = 3, int64_t kv_heads = 2, int64_t head_dim = 10) {
  ModelConfig config;
  config.layers = layers;
  config.kv_heads = kv_heads;
  config.head_dim = head_dim;
  return config;
}

/// A page with memory for its open form.
int32_t take_open(KvCache& cache) {
  const int32_t page = cache.take();
  cache.set_forms(page, true, false);
  return page;
}

void resize(PageTable& table, int64_t tokens) {
  table.shrink(tokens);
  table.grow(tokens);
  table.settle();
}

std::vector<int32_t> take_all(KvCache& cache) {
  std::vector<int32_t> pages;
  while (cache.free_pages() > 0) pages.push_back(take_open(cache));
  return pages;
}

TEST(KvCache, AccountsForItsPages) {
  KvCache cache(shape(), {}, 200);
  EXPECT_EQ(cache.max_tokens(), 256);  // whole pages
  EXPECT_EQ(cache.free_pages(), 4);
  const int64_t page_bytes = 64 * 3 * 2 * 2 * 10 * 4;  // tokens, layers, K and V, heads, head_dim, float
  EXPECT_EQ(cache.bytes_for(1), page_bytes);
  EXPECT_EQ(cache.bytes_for(65), 2 * page_bytes);
  EXPECT_EQ(cache.bytes_per_token(64), double(page_bytes) / 64);
  EXPECT_EQ(cache.bytes_allocated(), 0);
  const int32_t page = take_open(cache);
  EXPECT_EQ(cache.free_pages(), 3);
  EXPECT_EQ(cache.bytes_allocated(), page_bytes);
  cache.give_back(page);
  EXPECT_EQ(cache.free_pages(), 4);
  EXPECT_EQ(take_open(cache), page);  // the warm page first: no further memory
  EXPECT_EQ(cache.bytes_allocated(), page_bytes);
}

TEST(KvCache, EveryPageHasItsOwnMemoryForAllLayers) {
  KvCache cache(shape(), {}, 64 * 8);
  const std::vector<int32_t> pages = take_all(cache);
  EXPECT_EQ(std::set<int32_t>(pages.begin(), pages.end()).size(), 8u);
  const KvPages view = cache.view();
  const int64_t layer_floats = view.open_layer_bytes() / int64_t{sizeof(float)};
  // Marks the first and last float of every layer of every page, then looks whether any was overwritten.
  const auto visit = [&](auto&& action) {
    for (int32_t page : pages)
      for (int64_t layer = 0; layer < 3; ++layer) {
        float* const base = view.layer(layer).k(page, 0);
        action(base[0], float(1000 * page + 10 * layer));
        action(base[layer_floats - 1], float(1000 * page + 10 * layer + 1));
      }
  };
  visit([](float& x, float mark) { x = mark; });
  visit([](float& x, float mark) { EXPECT_EQ(x, mark); });
}

TEST(KvCache, PagesAreAlignedAndStayInPlace) {
  KvCache cache(shape(), {}, 64 * 4);
  const int32_t first = take_open(cache);
  float* const address = cache.view().k(first, 0);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(address) % 64, 0u);
  take_all(cache);
  EXPECT_EQ(cache.view().k(first, 0), address);
}

TEST(KvCache, ExhaustionIsAnErrorThatPasses) {
  KvCache cache(shape(), {}, 64 * 2);
  const std::vector<int32_t> pages = take_all(cache);
  try {
    cache.take();
    FAIL() << "took a third page";
  } catch (const Error& e) {
    EXPECT_EQ(std::string(e.what()), "the KV cache is full: all 128 tokens are in use");
  }
  EXPECT_EQ(cache.free_pages(), 0);
  cache.give_back(pages[0]);
  EXPECT_EQ(cache.take(), pages[0]);
}

TEST(KvCache, ShufflingPermutesTheOrderAndDependsOnTheSeedAlone) {
  const auto order = [](uint64_t seed) {
    KvCache cache(shape(1, 1, 2), {}, 64 * 20, seed);
    return take_all(cache);
  };
  std::vector<int32_t> ascending(20);
  std::iota(ascending.begin(), ascending.end(), 0);
  EXPECT_EQ(order(0), ascending);
  EXPECT_EQ(order(7), order(7));
  EXPECT_NE(order(7), order(8));
  EXPECT_NE(order(7), ascending);
  std::vector<int32_t> sorted = order(7);
  std::sort(sorted.begin(), sorted.end());
  EXPECT_EQ(sorted, ascending);
}

TEST(PageTable, HoldsJustThePagesThatItsTokensNeed) {
  KvCache cache(shape(), {}, 64 * 5);
  PageTable table(cache);
  for (const auto& [tokens, pages] : std::vector<std::pair<int64_t, size_t>>{
           {0, 0}, {1, 1}, {64, 1}, {65, 2}, {320, 5}, {129, 3}, {128, 2}, {1, 1}, {0, 0}}) {
    resize(table, tokens);
    EXPECT_EQ(table.pages().size(), pages) << tokens;
    EXPECT_EQ(cache.free_pages(), 5 - int64_t(pages)) << tokens;
  }
}

TEST(PageTable, KeepsItsFirstPagesWhenItGrowsAndShrinks) {
  KvCache cache(shape(), {}, 64 * 6);
  PageTable table(cache), other(cache);
  resize(table, 64);
  resize(other, 64);
  resize(table, 64 * 3);
  const std::vector<int32_t> three(table.pages().begin(), table.pages().end());
  EXPECT_EQ(std::count(three.begin(), three.end(), other.pages()[0]), 0);
  resize(table, 64 * 2);
  resize(table, 64 * 3);
  EXPECT_EQ(std::vector<int32_t>(table.pages().begin(), table.pages().end()), three);
}

TEST(PageTable, GivesItsPagesBackAtTheEnd) {
  KvCache cache(shape(), {}, 64 * 3);
  {
    PageTable table(cache);
    resize(table, 150);
    EXPECT_EQ(cache.free_pages(), 0);
  }
  EXPECT_EQ(cache.free_pages(), 3);
}

TEST(PageTable, LosesNothingWhenTheCacheIsFull) {
  KvCache cache(shape(), {}, 64 * 3);
  PageTable first(cache), second(cache);
  resize(first, 128);
  EXPECT_THROW(resize(second, 128), Error);
  EXPECT_TRUE(second.pages().empty());
  EXPECT_EQ(cache.free_pages(), 1);
  resize(first, 0);
  resize(second, 128);  // room now
  EXPECT_EQ(second.pages().size(), 2u);
  resize(second, 0);
  EXPECT_EQ(cache.free_pages(), 3);
}

const KvFormat kHaar{
    .coded = true,
    .plan = {.transform = SeqTransform::kHaar, .levels = 5, .high_rows = 2, .high_bits = 8, .low_bits = 4}};

TEST(CodedCache, TakesTheBytesOfItsFormat) {
  // SmolLM2-135M's shape: against an f16 cache of 2 * 2 * 3 * 64 bytes a layer and token.
  const KvCache coded(shape(30, 3, 64), kHaar, 8192);
  const double f16 = 30.0 * 2 * 3 * 64 * 2;
  EXPECT_LE(coded.bytes_per_token(2048) / f16, 0.31);
  EXPECT_LE(coded.bytes_per_token(2049) / f16, 0.31);  // with an open page
  EXPECT_LE(coded.bytes_per_token(8192) / f16, 0.29);
  EXPECT_LE(coded.bytes_per_token(8193) / f16, 0.29);
}

TEST(CodedCache, FullPagesLoseTheirOpenForm) {
  KvCache cache(shape(), kHaar, 64 * 8);
  PageTable table(cache);
  const auto forms = [&] {
    std::string text;
    for (int32_t page : table.pages()) {
      const bool open = cache.view().open[size_t(page)] != nullptr,
                 sealed = cache.view().sealed[size_t(page)] != nullptr;
      text += open && sealed ? 'b' : open ? 'o' : sealed ? 's' : '-';
    }
    return text;
  };
  table.grow(130);
  EXPECT_EQ(forms(), "oso");  // page 0 stays open, page 1 is prefilled whole, page 2 has begun
  table.settle();
  EXPECT_EQ(forms(), "oso");
  table.grow(192);
  EXPECT_EQ(forms(), "osb");  // page 2 is sealed from its open form
  table.settle();
  EXPECT_EQ(forms(), "oss");
  EXPECT_EQ(table.can_keep(150), 128);  // a sealed page cannot be cut
  EXPECT_EQ(table.can_keep(40), 40);
  table.shrink(128);
  EXPECT_EQ(forms(), "os");
  table.grow(129);
  EXPECT_EQ(forms(), "oso");
  table.shrink(0);
  EXPECT_EQ(cache.free_pages(), 8);
}

}  // namespace
}  // namespace stamp
