// Statistics of activations, and the search of plans that goes by them.
#include "engine/inspect.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "engine/tune.h"
#include "kernels/error.h"
#include "models/prepare/prepare.h"
#include "tests/tiny_model.h"

namespace stamp {
namespace {

Recipe stamp_recipe() {
  Recipe recipe = Recipe::load("w4a4kv4-stamp");
  recipe.weights = {};
  return recipe;
}

/// What inspect() says about a tiny model with random weights.
struct Inspected {
  explicit Inspected(bool products, int threads = 1, const Recipe& recipe = stamp_recipe(),
                     bool probed = false) {
    const TempDir directory;
    random_model(3, 32).write(directory.path());
    const ModelConfig config = ModelConfig::load(directory.path());
    const ModelWeights source = ModelWeights::load(directory.path(), config);
    const auto ops = make_ops({}, threads);
    const ModelWeights weights = prepare_weights(config, source, float_recipe(recipe), {.ops = ops.get()});
    std::vector<int32_t> tokens;
    for (int i = 0; i < 700; ++i) tokens.push_back(int32_t('a' + i / 5 * 7 % 26));
    inspection =
        inspect(config, weights, recipe,
                {.ops = ops.get(), .tokens = tokens, .transforms = tuned_transforms(), .products = products});
    if (probed)
      sensitivities = measure_sensitivities(config, weights, recipe, {.ops = ops.get(), .tokens = tokens});
  }
  Inspection inspection;
  Sensitivities sensitivities;
};

TEST(Inspect, MeasuresWholeBlocksButTheFirstOfEachSequence) {
  const Inspected x(false);
  EXPECT_EQ(x.inspection.tokens, 640);
  EXPECT_EQ(x.inspection.blocks, 8);  // 512 and 128 tokens
  EXPECT_EQ(x.inspection.layers.size(), 2u);
}

TEST(Inspect, OrthonormalTransformsKeepTheEnergy) {
  const Inspected x(false);
  for (const auto& layer : x.inspection.layers)
    for (const SourceStatistics& s : layer)
      for (size_t t = 0; t < x.inspection.transforms.size(); ++t) {
        EXPECT_GT(s.power(), 0);
        const auto energy = x.inspection.energy(s, t);
        EXPECT_NEAR(std::accumulate(energy.begin(), energy.end(), 0.0), double(kBlock), 1e-3);
        for (double e : energy) EXPECT_GE(e, -1e-4);
      }
}

TEST(Inspect, TransformsAreTheirDefinitions) {
  const Inspected x(false);
  for (size_t t = 0; t < x.inspection.transforms.size(); ++t) {
    const auto& l = x.inspection.matrices[t];
    for (int64_t a = 0; a < kBlock; ++a)
      for (int64_t b = 0; b < kBlock; ++b) {
        double dot = 0;
        for (int64_t i = 0; i < kBlock; ++i) dot += l[size_t(a * kBlock + i)] * l[size_t(b * kBlock + i)];
        ASSERT_NEAR(dot, a == b ? 1 : 0, 1e-5) << t;
      }
  }
  const size_t dct = x.inspection.index_of({SeqTransform::kDct});
  EXPECT_NEAR(x.inspection.matrices[dct][0], 1 / 8.0, 1e-6);
  const auto& haar = x.inspection.matrices[x.inspection.index_of({SeqTransform::kHaar, 5})];
  EXPECT_NEAR(haar[0], 1 / std::sqrt(32.0), 1e-6);
  EXPECT_NEAR(haar[32], 0, 1e-6);
  EXPECT_THROW(x.inspection.index_of({SeqTransform::kHaar, 7}), Error);
}

/// Statistics of blocks with this Gram matrix.
SourceStatistics with_gram(double (*entry)(int64_t t, int64_t u)) {
  SourceStatistics s{.channels = 1, .plan = {}, .gram = {}, .errors = {}};
  for (int64_t t = 0; t < kBlock; ++t)
    for (int64_t u = 0; u < kBlock; ++u) s.gram.push_back(entry(t, u));
  return s;
}

TEST(Inspect, WhiteNoiseIsFlatAndAConstantIsOneCoefficient) {
  const Inspected x(false);
  const auto white = with_gram([](int64_t t, int64_t u) { return t == u ? 3.0 : 0.0; });
  const auto constant = with_gram([](int64_t, int64_t) { return 2.0; });
  for (size_t t = 0; t < x.inspection.transforms.size(); ++t) {
    for (double e : x.inspection.energy(white, t)) EXPECT_NEAR(e, 1, 1e-5);
    const Transform& transform = x.inspection.transforms[t];
    const auto energy = x.inspection.energy(constant, t);
    const int64_t coarse = transform.kind == SeqTransform::kIdentity ? kBlock
                           : transform.kind == SeqTransform::kHaar   ? kBlock >> transform.levels
                                                                     : 1;
    for (int64_t k = 0; k < kBlock; ++k)
      EXPECT_NEAR(energy[size_t(k)], k < coarse ? double(kBlock / coarse) : 0, 1e-3)
          << transform_text(transform);
  }
  EXPECT_NEAR(white.autocorrelation(0), 1, 1e-12);
  EXPECT_NEAR(white.autocorrelation(5), 0, 1e-12);
  EXPECT_NEAR(constant.autocorrelation(32), 1, 1e-12);
  const auto decaying =
      with_gram([](int64_t t, int64_t u) { return std::pow(0.9, double(std::abs(t - u))); });
  EXPECT_NEAR(decaying.autocorrelation(3), std::pow(0.9, 3), 1e-12);
}

TEST(Inspect, MoreBitsLeaveLessErrorAndThreadsChangeNothing) {
  const Inspected one(true), three(true, 3);
  for (size_t layer = 0; layer < one.inspection.layers.size(); ++layer)
    for (int s = 0; s < kSources; ++s)
      for (size_t t = 0; t < one.inspection.transforms.size(); ++t) {
        const SourceStatistics& a = one.inspection.layers[layer][size_t(s)];
        const SourceStatistics& b = three.inspection.layers[layer][size_t(s)];
        const BitPlan none{.high_rows = 0, .low_bits = 4}, some{.high_rows = 8, .low_bits = 4};
        EXPECT_EQ(a.error(t, 2), b.error(t, 2));
        EXPECT_EQ(a.product_error(t, some), b.product_error(t, some));
        // 15 steps over a range of a few standard deviations; 255 steps have 1/289 of the error.
        EXPECT_LT(a.error(t, 0), 0.05);
        EXPECT_GT(a.error(t, 0), 1e-4);
        EXPECT_LT(a.error(t, 8), a.error(t, 0));
        EXPECT_NEAR(a.error(t, kBlock) * 289 / a.error(t, 0), 1, 0.3);
        if (s >= kSites) continue;
        EXPECT_LT(a.product_error(t, none), 0.05);
        EXPECT_GT(a.product_error(t, none), 1e-4);
        EXPECT_LT(a.product_error(t, some), a.product_error(t, none));
      }
}

TEST(Inspect, RefusesATextWithoutABlockToMeasure) {
  const TempDir directory;
  random_model().write(directory.path());
  const ModelConfig config = ModelConfig::load(directory.path());
  const ModelWeights weights = ModelWeights::load(directory.path(), config);
  const auto ops = make_ops({}, 1);
  const std::vector<int32_t> tokens(127, 'a');
  EXPECT_THROW(inspect(config, weights, Recipe(), {.ops = ops.get(), .tokens = tokens, .transforms = {}}),
               InputError);
}

TEST(Inspect, WeightErrorsFallWithTheBits) {
  const TempDir directory;
  random_model(4, 64).write(directory.path());
  const ModelConfig config = ModelConfig::load(directory.path());
  const ModelWeights weights = ModelWeights::load(directory.path(), config);
  const auto ops = make_ops({}, 1);
  Recipe four, eight;
  four.weights = {.bits = 4, .group = 32, .value_bits = 4};
  eight.weights = {.bits = 8, .value_bits = 8};
  const ModelWeights w4 = prepare_weights(config, weights, four, {.ops = ops.get()}),
                     w8 = prepare_weights(config, weights, eight, {.ops = ops.get()});
  const auto none = weight_errors(*ops, weights.layers[0], weights.layers[0]),
             e4 = weight_errors(*ops, weights.layers[0], w4.layers[0]),
             e8 = weight_errors(*ops, weights.layers[0], w8.layers[0]);
  for (size_t i = 0; i < kMatrices; ++i) {
    EXPECT_EQ(none[i], 0);
    EXPECT_LT(e4[i], 0.02);
    EXPECT_GT(e4[i], 50 * e8[i]);
  }
}

TEST(Tune, IsNeverWorseThanTheFixedPlanAtItsBits) {
  const Recipe recipe = stamp_recipe();
  const Inspected x(true, 1, recipe, true);
  double last = 1e300;
  for (double budget : {3.5, 4.0, 4.125, 4.3, 4.5, 5.0}) {
    const TuneResult result = tune(x.inspection, x.sensitivities, recipe, {.budget = budget});
    EXPECT_LE(result.bits, budget + 1e-6);
    EXPECT_LE(result.loss, last) << budget;  // more bits, less loss
    last = result.loss;
    if (budget >= 4.125) {
      EXPECT_LT(result.loss, result.fixed_loss) << budget;
    }
    EXPECT_NEAR(result.fixed_bits, 4.125, 1e-9);
    // The numbers are those of the plans in the recipe, which a file holds.
    const Recipe again = Recipe::parse(result.recipe.to_json(), "tuned.json");
    EXPECT_EQ(again, result.recipe);
    EXPECT_EQ(again.site_plans.size(), x.inspection.layers.size() * kSites);
    double bits = 0, channels = 0;
    for (const auto& [where, plan] : again.site_plans) {
      const auto n = double(x.inspection.layers[size_t(where.first)][size_t(where.second)].channels);
      bits += plan.mean_bits() * n, channels += n;
    }
    EXPECT_NEAR(bits / channels, result.bits, 1e-9);
  }
}

TEST(Tune, SpendsBitsWhereAnswersNeedThem) {
  const Inspected x(true);
  Sensitivities even(x.inspection.layers.size(), {0.01, 0.01, 0.01, 0.01}), one = even;
  one[1][size_t(Site::kFeedForward)] = 0.3;
  const auto bits = [&](const Sensitivities& s) {
    return tune(x.inspection, s, stamp_recipe(), {.budget = 4.125})
        .recipe.plan_of(1, Site::kFeedForward)
        .mean_bits();
  };
  EXPECT_GT(bits(one), bits(even) + 0.5);
}

TEST(Tune, TakesOnlyTheTransformsGiven) {
  const Inspected x(true);
  const Sensitivities even(x.inspection.layers.size(), {0.01, 0.01, 0.01, 0.01});
  const TuneResult result =
      tune(x.inspection, even, stamp_recipe(), {.budget = 4.125, .transforms = {{SeqTransform::kDct}}});
  for (const auto& [where, plan] : result.recipe.site_plans) EXPECT_EQ(plan.transform, SeqTransform::kDct);
}

TEST(Tune, RefusesOnePrecisionAndImpossibleBudgets) {
  const Inspected x(true);
  const Sensitivities even(x.inspection.layers.size(), {0.01, 0.01, 0.01, 0.01});
  EXPECT_THROW(tune(x.inspection, even, stamp_recipe(), {.budget = 2.9}), InputError);
  EXPECT_THROW(tune(x.inspection, even, Recipe(), {.budget = 4.125}), InputError);
  EXPECT_THROW(tune(x.inspection, even, Recipe::load("w4a8"), {.budget = 8}), InputError);
}

}  // namespace
}  // namespace stamp
