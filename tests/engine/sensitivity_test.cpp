#include "engine/sensitivity.h"

#include <gtest/gtest.h>

#include "engine/inspect.h"
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
  Sensitivities measure(int low_bits, int64_t tokens = 300, int threads = 1) {
    recipe_.activations.plan.low_bits = low_bits;
    const auto ops = make_ops({}, threads);
    const ModelWeights prepared =
        prepare_weights(config_, weights_, float_recipe(recipe_), {.ops = ops.get()});
    std::vector<int32_t> text;
    for (int64_t i = 0; i < tokens; ++i) text.push_back(int32_t('a' + i / 5 * 7 % 26));
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

TEST_F(Sensitivity, RefusesATextWithoutASecondBlock) { EXPECT_THROW(measure(4, kBlock), InputError); }

}  // namespace
}  // namespace stamp
