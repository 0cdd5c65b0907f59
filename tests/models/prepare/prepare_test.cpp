// Preparation: rotations change nothing, quantised weights are near the originals, threads change no bit.
#include "models/prepare/prepare.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <numeric>

#include "engine/kv_cache.h"
#include "kernels/half.h"
#include "models/llama.h"
#include "models/prepare/gptq.h"
#include "models/prepare/quantize.h"
#include "tests/kernels/nmse.h"

namespace stamp {
namespace {

const std::filesystem::path kTiny = std::filesystem::path(STAMP_TEST_DATA_DIR) / "tiny";

std::vector<std::string> models() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kTiny))
    names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

/// Logits of 150 tokens of a model under a recipe.
std::vector<float> logits_of(const std::string& name, const Recipe& recipe, Ops& ops, int64_t chunk = 128) {
  const ModelConfig config = ModelConfig::load(kTiny / name);
  ModelWeights weights = ModelWeights::load(kTiny / name, config);
  if (!recipe.keeps_weights()) weights = prepare_weights(config, weights, recipe, {.ops = &ops});
  Llama llama(config, weights, recipe, ops, chunk);
  constexpr int64_t kTokens = 150;
  KvCache cache(config, {.coded = recipe.kv.quantised, .plan = recipe.kv.plan}, kTokens);
  PageTable pages(cache);
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < kTokens; ++i) tokens.push_back(int32_t((i * 7919 + 31) % config.vocab_size));
  std::vector<float> logits(size_t(kTokens * config.vocab_size));
  for (int64_t begin = 0; begin < kTokens; begin += chunk) {
    const int64_t rows = std::min(chunk, kTokens - begin);
    pages.grow(begin + rows);
    std::vector<int32_t> wanted(static_cast<size_t>(rows));
    std::iota(wanted.begin(), wanted.end(), 0);
    const RowRun run{.row = 0, .count = rows, .position = begin, .pages = pages.pages()};
    llama.forward({.tokens = std::span(tokens).subspan(size_t(begin), size_t(rows)),
                   .runs = {&run, 1},
                   .logit_rows = wanted},
                  cache.view(),
                  {logits.data() + begin * config.vocab_size, rows, config.vocab_size, config.vocab_size});
    pages.settle();
  }
  return logits;
}

Recipe rotated() {
  Recipe recipe;
  recipe.name = "rotated";
  recipe.rotation = {.residual = true, .head = true, .down = true, .seed = 3};
  return recipe;
}

TEST(Preparation, RotationsLeaveTheLogitsOfEveryVariant) {
  const auto ops = make_ops({}, 2);
  for (const std::string& name : models())
    EXPECT_LE(nmse(logits_of(name, rotated(), *ops), logits_of(name, Recipe(), *ops)), 1e-9) << name;
}

TEST(Preparation, EightBitsAreCloseAndFourBitsCloserWithGptqThanWithoutIt) {
  const auto ops = make_ops({}, 2);
  const std::string name = models().front();
  const auto exact = logits_of(name, Recipe(), *ops);
  Recipe eight = rotated();
  eight.weights = {.bits = 8, .value_bits = 8, .head_bits = 8};
  eight.activations = {.quantised = true, .plan = {}};
  eight.kv = {.quantised = true, .plan = {}};
  EXPECT_LE(nmse(logits_of(name, eight, *ops), exact), 0.01);
  Recipe four = rotated();
  four.weights = {.bits = 4, .group = 32, .value_bits = 8, .head_bits = 8};
  const double nearest = nmse(logits_of(name, four, *ops), exact);
  four.weights.gptq = true;
  EXPECT_LT(nmse(logits_of(name, four, *ops), exact), nearest);
}

TEST(Preparation, LogitsDoNotDependOnThreadsOrChunks) {
  const std::string name = models().front();
  Recipe recipe = Recipe::load("w4a4kv4-stamp");
  recipe.weights.gptq = true;
  for (const std::string& isa : available_ops()) {
    if (isa == "reference" || isa == "scalar") continue;  // the same code, slowly
    const auto one = make_ops(isa, 1), three = make_ops(isa, 3);
    const auto whole = logits_of(name, recipe, *one, 192);
    for (int64_t chunk : {64, 128}) {
      const auto other = logits_of(name, recipe, *three, chunk);
      EXPECT_EQ(0, std::memcmp(other.data(), whole.data(), whole.size() * sizeof(float)))
          << isa << " " << chunk;
    }
  }
}

TEST(Preparation, PlansOfAllInputsAreTheRecipesPlan) {
  const auto ops = make_ops({}, 2);
  const std::string name = models().front();
  Recipe whole = rotated();
  whole.activations = {.quantised = true,
                       .plan = {.transform = SeqTransform::kHaar, .high_rows = 2, .low_bits = 4}};
  Recipe single = rotated();
  single.activations = {.quantised = true, .plan = {}};
  const auto eight = logits_of(name, single, *ops);
  for (int64_t layer = 0; layer < ModelConfig::load(kTiny / name).layers; ++layer)
    for (int site = 0; site < kSites; ++site) single.site_plans[{layer, Site(site)}] = whole.activations.plan;
  const auto a = logits_of(name, whole, *ops), b = logits_of(name, single, *ops);
  EXPECT_EQ(0, std::memcmp(a.data(), b.data(), a.size() * sizeof(float)));
  EXPECT_NE(0, std::memcmp(b.data(), eight.data(), b.size() * sizeof(float)));
}

TEST(Rotation, IsOrthogonalForSizesThatAreNoPowersOfTwo) {
  for (int64_t dim : {576, 1536, 40, 36, 7, 1, 11008}) {
    const Rotation rotation = Rotation::random(dim, 5);
    std::vector<double> x(static_cast<size_t>(dim));
    for (size_t i = 0; i < x.size(); ++i) x[i] = 0.1 + std::sin(double(i) * 1.7) + (i == 3 ? 40 : 0);
    const std::vector<double> before = x;
    rotation.apply(x);
    double square = 0, square_before = 0, peak = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      square += x[i] * x[i], square_before += before[i] * before[i];
      peak = std::max(peak, std::fabs(x[i]));
    }
    EXPECT_NEAR(square / square_before, 1, 1e-6) << dim;
    if (dim > 30) {
      EXPECT_LT(peak, 25) << dim;  // the outlier is spread
    }
  }
}

TEST(RowGrid, ClippingNeverLosesToTheFullRange) {
  std::vector<double> weights;
  for (int i = 0; i < 64; ++i) weights.push_back(std::sin(i * 2.3) * 0.1);
  weights[7] = 1.5;
  for (bool symmetric : {false, true}) {
    const GroupGrid grid = RowGrid::fit(weights, 64, symmetric).of_group(0);
    double error = 0, full = 0;
    const double step = symmetric ? 1.5 / 7 : 1.6 / 15;
    for (double w : weights) {
      error += std::pow(grid.value(grid.code(w)) - w, 2);
      full += std::pow(std::nearbyint(w / step) * step - w, 2);
    }
    EXPECT_LE(error, full * 1.05) << symmetric;
  }
}

/// Groups whose ranges differ a lot: each is nearly as good with a multiple of the row's scale as alone, and
/// every code is an integer that fits into a signed byte.
TEST(RowGrid, GroupsOfOneRowAreNearlyAsGoodAsByThemselves) {
  constexpr int64_t kGroup = 64, kGroups = 12;
  std::vector<double> weights;
  for (int64_t i = 0; i < kGroup * kGroups; ++i)
    weights.push_back(std::sin(double(i) * 2.3 + std::cos(double(i))) * (0.05 + 0.02 * double(i / kGroup)));
  weights[5] = 0;
  const auto error_of = [](const GroupGrid& grid, std::span<const double> part) {
    double error = 0;
    for (double w : part) error += std::pow(grid.value(grid.code(w)) - w, 2);
    return error;
  };
  for (bool symmetric : {false, true}) {
    const RowGrid row = RowGrid::fit(weights, kGroup, symmetric);
    double together = 0, alone = 0;
    for (int64_t g = 0; g < kGroups; ++g) {
      const auto part = std::span<const double>(weights).subspan(size_t(g * kGroup), size_t(kGroup));
      const GroupGrid grid = row.of_group(g);
      together += error_of(grid, part);
      alone += error_of(RowGrid::fit(part, kGroup, symmetric).of_group(0), part);
      for (int code : {0, kTopCode}) {
        EXPECT_GE(grid.group_scale * code - grid.zero, -128);
        EXPECT_LE(grid.group_scale * code - grid.zero, 127);
      }
      EXPECT_LE(grid.group_scale, kTopGroupScale);
    }
    EXPECT_LE(together, alone * 1.1) << symmetric;
  }
}

TEST(RowGrid, ZerosStayZeros) {
  const std::vector<double> weights(128, 0.0);
  const RowGrid row = RowGrid::fit(weights, 64, false);
  EXPECT_EQ(row.of_group(1).value(row.of_group(1).code(0.0)), 0.0);
}

/// Tokens of correlated channels, and a matrix.
struct CorrelatedProduct {
  static constexpr int64_t kIn = 96, kOut = 40, kTokens = 512;

  explicit CorrelatedProduct(float correlation = 3) : x(size_t(kTokens * kIn)) {
    uint64_t state = 1;
    const auto next = [&] {
      return float(int64_t((state = state * 6364136223846793005u + 1442695040888963407u) >> 40) - (1 << 23)) /
             float(1 << 23);
    };
    for (int64_t t = 0; t < kTokens; ++t) {
      const float common = correlation * next();
      for (int64_t c = 0; c < kIn; ++c) x[size_t(t * kIn + c)] = common * float(1 + c % 5) + next();
    }
    for (int64_t i = 0; i < kOut * kIn; ++i) w.values.push_back(double(next()));
  }
  Hessian hessian(ThreadPool& pool) const {
    Hessian h(kIn);
    h.add(x.data(), kTokens, pool);
    return h;
  }

  std::vector<float> x;
  DenseMatrix w{kOut, kIn, {}};
};

TEST(Hessian, HoldsTheInputsMomentsForAnyNumberOfThreads) {
  const CorrelatedProduct p;
  ThreadPool pool(2), one(1);
  const Hessian hessian = p.hessian(pool);
  EXPECT_EQ(hessian.values, p.hessian(one).values);
  double moment = 0;
  for (int64_t t = 0; t < p.kTokens; ++t)
    moment += double(p.x[size_t(t * p.kIn + 70)]) * double(p.x[size_t(t * p.kIn + 90)]);
  EXPECT_NEAR(hessian.values[size_t(70 * p.kIn + 90)], moment, 1e-4 * std::fabs(moment));
}

TEST(Gptq, BeatsRoundingOnCorrelatedInputs) {
  CorrelatedProduct p;
  ThreadPool pool(2), one(1);
  const auto error_of = [&](const PackedWeight& q) {
    std::vector<float> row(static_cast<size_t>(p.kIn));
    double error = 0;
    for (int64_t r = 0; r < p.kOut; ++r) {
      unpack_row(q.view, r, row);
      for (int64_t t = 0; t < p.kTokens; ++t) {
        double difference = 0;
        for (int64_t c = 0; c < p.kIn; ++c)
          difference += (double(row[size_t(c)]) - p.w.row(r)[c]) * double(p.x[size_t(t * p.kIn + c)]);
        error += difference * difference;
      }
    }
    return error;
  };
  for (int bits : {4, 8}) {
    const GptqPlan plan = GptqPlan::from(p.hessian(pool));
    const PackedWeight gptq = quantize_gptq(p.w, plan, bits, 32, false, pool),
                       alone = quantize_gptq(p.w, plan, bits, 32, false, one);
    EXPECT_LT(error_of(gptq), 0.05 * error_of(quantize_nearest(p.w, bits, 32, false, pool))) << bits;
    EXPECT_EQ(0, std::memcmp(gptq.data.data(), alone.data.data(), size_t(gptq.data.size()))) << bits;
  }
}

/// The descent has gone through: hardly a code is left whose neighbour would lower the damped error.
TEST(Gptq, LeavesHardlyACodeThatItsNeighbourWouldBetter) {
  CorrelatedProduct p(0.5f);
  ThreadPool pool(2);
  const GptqPlan plan = GptqPlan::from(p.hessian(pool));
  const PackedWeight q = quantize_gptq(p.w, plan, 4, 32, false, pool);
  std::vector<float> row(static_cast<size_t>(p.kIn));
  int64_t better = 0;
  for (int64_t r = 0; r < p.kOut; ++r) {
    unpack_row(q.view, r, row);
    for (int64_t c = 0; c < p.kIn; ++c) {
      const double* moments = plan.moments.data() + c * p.kIn;
      double slope = 0;
      for (int64_t j = 0; j < p.kIn; ++j) slope += moments[j] * (double(row[size_t(j)]) - p.w.row(r)[j]);
      const int64_t g = c / 32;
      const int group_scale = q.view.group_scale[q.view.group_scale_at(r, g)],
                zero = q.view.zero[q.view.zero_at(r, g)];
      const double step = double(q.view.scale[r]) * group_scale,
                   code = std::nearbyint((double(row[size_t(c)] / q.view.scale[r]) + zero) / group_scale);
      const bool can_move = slope > 0 ? code > 0 : code < kTopCode;
      if (can_move && step * step * moments[c] < 2 * step * std::fabs(slope)) ++better;
    }
  }
  EXPECT_LE(better, 10);  // rounding in order alone leaves 73
}

}  // namespace
}  // namespace stamp
