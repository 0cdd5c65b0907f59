#include "engine/sensitivity.h"

#include <gtest/gtest.h>

#include <numeric>

#include "engine/inspect.h"
#include "engine/text_pass.h"
#include "kernels/error.h"
#include "models/prepare/prepare.h"
#include "tests/tiny_model.h"

namespace stamp {
namespace {

class Sensitivity : public testing::Test {
 protected:
  Sensitivity() {
    random_model(3, 32).write(directory_.path());
    config_ = ModelConfig::load(directory_.path());
    weights_ = ModelWeights::load(directory_.path(), config_);
  }
  ModelWeights prepared(Ops& ops) const {
    return prepare_weights(config_, weights_, float_recipe(recipe_), {.ops = &ops});
  }
  static std::vector<int32_t> text_of(int64_t tokens) {
    std::vector<int32_t> text;
    for (int64_t i = 0; i < tokens; ++i) text.push_back(int32_t('a' + i / 5 * 7 % 26));
    return text;
  }
  Sensitivities measure(int low_bits, int64_t tokens = 300, int threads = 1) {
    recipe_.activations.plan.low_bits = low_bits;
    const auto ops = make_ops({}, threads);
    const ModelWeights prepared = this->prepared(*ops);
    const std::vector<int32_t> text = text_of(tokens);
    passes_ = 0;
    return measure_sensitivities(
        config_, prepared, recipe_,
        {.ops = ops.get(), .tokens = text, .progress = [&](int64_t done, int64_t total) {
           EXPECT_EQ(done, ++passes_);
           EXPECT_EQ(total, config_.layers * kSites + 2);
         }});
  }

  TempDir directory_;
  ModelConfig config_;
  ModelWeights weights_;
  Recipe recipe_ = Recipe::load("w4a4kv4-stamp");
  int64_t passes_ = 0;
};

TEST_F(Sensitivity, EveryInputCountsAndFewerBitsCountMore) {
  const Sensitivities four = measure(4), three = measure(3);
  EXPECT_EQ(passes_, config_.layers * kSites + 2);
  ASSERT_EQ(four.size(), size_t(config_.layers));
  for (size_t layer = 0; layer < four.size(); ++layer)
    for (size_t site = 0; site < kSites; ++site) {
      EXPECT_GT(four[layer][site], 0) << layer << " " << site;
      EXPECT_GT(three[layer][site], 2 * four[layer][site]) << layer << " " << site;  // steps are 15/7 as wide
    }
}

TEST_F(Sensitivity, ThreadsChangeNothing) { EXPECT_EQ(measure(4), measure(4, 300, 2)); }

/// Every token's logits of a run through all layers.
std::vector<float> whole_run(const ModelConfig& config, const ModelWeights& weights, const Recipe& recipe,
                             Ops& ops, std::span<const int32_t> text) {
  const auto count = int64_t(text.size());
  Llama llama(config, weights, recipe, ops, TextPass::kChunk);
  std::vector<float> logits(size_t(count * config.vocab_size));
  TextPass(config).run(text, [&](std::span<const int32_t> chunk, const RowRun& run, const KvPages& kv) {
    std::vector<int32_t> asked(chunk.size());
    std::iota(asked.begin(), asked.end(), 0);
    llama.forward(
        {.tokens = chunk, .runs = {&run, 1}, .logit_rows = asked}, kv,
        {logits.data() + run.position * config.vocab_size, run.count, config.vocab_size, config.vocab_size});
  });
  return logits;
}

TEST_F(Sensitivity, IsTheDivergenceOfARunThroughAllLayers) {
  constexpr int64_t kTokens = TextPass::kChunk + 100;
  config_.max_position_embeddings = 1024;
  const Sensitivities measured = measure(4, kTokens);
  const auto ops = make_ops({}, 1);
  const ModelWeights weights = prepared(*ops);
  const std::vector<int32_t> text = text_of(kTokens);
  const std::vector<float> exact = whole_run(config_, weights, float_recipe(recipe_), *ops, text);
  const auto divergence = [&](const Recipe& recipe) {
    const std::vector<float> logits = whole_run(config_, weights, recipe, *ops, text);
    const auto vocab = size_t(config_.vocab_size);
    double sum = 0;
    int count = 0;
    for (size_t row = kBlock; row < text.size(); row += 4, ++count) {
      float kl = 0;
      ops->kl_divergence({&kl, 1},
                         Mat<const float>{exact.data() + row * vocab, 1, int64_t(vocab), int64_t(vocab)},
                         Mat<const float>{logits.data() + row * vocab, 1, int64_t(vocab), int64_t(vocab)});
      sum += double(kl);
    }
    return sum / count;
  };
  Recipe eight = float_recipe(recipe_);
  eight.activations.quantised = true;
  const double base = divergence(eight);
  for (int64_t layer = 0; layer < config_.layers; ++layer)
    for (int s = 0; s < kSites; ++s) {
      eight.site_plans = {{{layer, Site(s)}, BitPlan{.low_bits = 4}}};
      EXPECT_DOUBLE_EQ(measured[size_t(layer)][size_t(s)], std::max(0.0, divergence(eight) - base))
          << layer << " " << s;
    }
}

TEST_F(Sensitivity, RefusesAContextShorterThanABlock) {
  config_.max_position_embeddings = kBlock - 1;
  EXPECT_THROW(measure(4), InputError);
}

TEST_F(Sensitivity, RefusesATextWithoutASecondBlock) { EXPECT_THROW(measure(4, kBlock), InputError); }

}  // namespace
}  // namespace stamp
