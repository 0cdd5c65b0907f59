// Drawing a token, on every available Ops, against its definition.
#include "kernels/draw.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "kernels/ops.h"

namespace stamp {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity(),
                kNan = std::numeric_limits<float>::quiet_NaN();
constexpr double kBelowOne = 1 - 0x1p-53;

/// Everything sorted, the weights summed one after another.
int32_t drawn_by_definition(std::span<const float> logits, const Draw& draw) {
  if (!std::ranges::all_of(logits, [](float x) { return std::isfinite(x); })) return -1;
  const DrawWeights weight(*std::ranges::max_element(logits), draw.temperature);
  const auto weight_of = [&](int32_t id) { return weight(logits[size_t(id)]); };
  const auto total_of = [&](const std::vector<int32_t>& ids) {
    uint64_t total = 0;
    for (const int32_t id : ids) total += weight_of(id);
    return total;
  };
  std::vector<int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::ranges::stable_sort(ids, [&](int32_t a, int32_t b) { return logits[size_t(a)] > logits[size_t(b)]; });
  if (draw.top_k > 0 && size_t(draw.top_k) < ids.size()) ids.resize(size_t(draw.top_k));
  if (draw.top_p < 1) {
    const double least = std::ceil(double(draw.top_p) * double(total_of(ids)));
    uint64_t sum = 0;
    for (size_t kept = 0; kept < ids.size(); ++kept) {
      sum += weight_of(ids[kept]);
      if (double(sum) >= least) ids.resize(kept + 1);
    }
  }
  std::erase_if(ids, [&](int32_t id) { return double(weight_of(id)) < double(draw.min_p) * 0x1p40; });
  std::ranges::sort(ids);
  const double target = std::floor(draw.uniform * double(total_of(ids)));
  uint64_t sum = 0;
  for (const int32_t id : ids)
    if (double(sum += weight_of(id)) > target) return id;
  return ids.back();
}

enum class Kind { kRandom, kTies, kEqual, kZeros, kExtremes, kNan, kInfinite, kMasked };
constexpr Kind kKinds[] = {Kind::kRandom,   Kind::kTies, Kind::kEqual,    Kind::kZeros,
                           Kind::kExtremes, Kind::kNan,  Kind::kInfinite, Kind::kMasked};
bool is_finite(Kind kind) { return kind < Kind::kNan; }

std::vector<float> logits_of(Kind kind, int64_t vocab, uint32_t seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal(0, 4);
  std::vector<float> logits(static_cast<size_t>(vocab));
  constexpr float kMost = std::numeric_limits<float>::max(), kExtremes[] = {-kMost, -1e-40f, 1e-40f, kMost};
  for (float& x : logits) {
    x = normal(rng);
    if (kind == Kind::kTies) x = std::round(x);
    if (kind == Kind::kEqual) x = 3.5f;
    if (kind == Kind::kZeros) x = rng() % 2 == 0 ? -0.0f : 0.0f;
    if (kind == Kind::kExtremes) x = kExtremes[rng() % 4];
  }
  float& one = logits[rng() % logits.size()];
  if (kind == Kind::kNan) one = kNan;
  if (kind == Kind::kInfinite) one = kInfinity;
  if (kind == Kind::kMasked) one = -kInfinity;
  return logits;
}

Draw random_draw(std::mt19937& rng, int64_t vocab) {
  const auto pick = [&](auto... choices) {
    const double all[] = {double(choices)...};
    return all[rng() % std::size(all)];
  };
  return {.temperature = float(pick(1e-6, 0.3, 0.8, 1, 2, 100)),
          .top_k = int32_t(pick(0, 0, 1, 5, vocab - 1, vocab, vocab + 1)),
          .top_p = float(pick(1, 1, 0.9, 0.5, 0.1, 1e-9, 1e-40)),
          .min_p = float(pick(0, 0, 0.01, 0.3, 1)),
          .uniform = pick(0, 0.5, kBelowOne, double(rng()) * 0x1p-32)};
}

TEST(DrawToken, IsTheDefinitionsForRandomParameters) {
  std::mt19937 rng(1);
  std::vector<uint64_t> scratch(2 * 5003);
  for (const int64_t vocab : {1, 2, 7, 300, 5003})
    for (const Kind kind : kKinds) {
      if (!is_finite(kind)) continue;
      const std::vector<float> logits = logits_of(kind, vocab, uint32_t(rng()));
      for (int round = 0; round < (vocab > 1000 ? 60 : 600); ++round) {
        const Draw draw = random_draw(rng, vocab);
        ASSERT_EQ(draw_token(logits, draw, scratch), drawn_by_definition(logits, draw))
            << vocab << ", kind " << int(kind) << ": " << draw.temperature << " " << draw.top_k << " "
            << draw.top_p << " " << draw.min_p << " " << draw.uniform;
      }
    }
}

TEST(DrawToken, TiesGoToTheLowestIds) {
  std::vector<uint64_t> scratch(12);
  const std::vector<float> logits{1, 2, -0.0f, 2, 2, 0.0f};
  const auto last = [&](Draw draw) {
    draw.uniform = kBelowOne;
    return draw_token(logits, draw, scratch);
  };
  EXPECT_EQ(last({}), 5);
  EXPECT_EQ(last({.top_k = 5}), 4);  // without the second of the zeros
  EXPECT_EQ(last({.top_k = 3}), 4);
  EXPECT_EQ(last({.top_k = 2}), 3);
  EXPECT_EQ(last({.top_k = 1}), 1);
  EXPECT_EQ(last({.temperature = 0.1f, .top_p = 0.4f}), 3);
  EXPECT_EQ(last({.temperature = 0.1f, .top_p = 0.3f}), 1);
}

TEST(DrawToken, MaskedTokensAreNeverDrawn) {
  std::vector<uint64_t> scratch(8);
  const std::vector<float> logits{-kInfinity, -5, -kInfinity, -5};
  for (const int32_t top_k : {0, 1, 3, 4}) {
    for (const float top_p : {1.0f, 0.9f}) {
      const Draw first{.temperature = 100, .top_k = top_k, .top_p = top_p};
      Draw last = first;
      last.uniform = kBelowOne;
      EXPECT_EQ(draw_token(logits, first, scratch), 1);
      EXPECT_EQ(draw_token(logits, last, scratch), top_k == 1 ? 1 : 3);
    }
  }
}

/// 200,000 draws of eight tokens; with 7 degrees of freedom a chi-square above 29.9 comes once in 10,000.
TEST(DrawToken, FrequenciesFollowTheSoftmax) {
  const std::vector<float> logits{0.0f, 1.0f, -1.0f, 2.0f, 0.5f, -2.0f, 1.5f, -0.5f};
  std::vector<uint64_t> scratch(2 * logits.size());
  std::mt19937_64 rng(2);
  for (const float temperature : {0.5f, 1.0f, 3.0f}) {
    std::vector<double> p, counts(logits.size());
    for (const float x : logits) p.push_back(std::exp(double(x) / double(temperature)));
    const double total = std::accumulate(p.begin(), p.end(), 0.0), draws = 200'000;
    for (int i = 0; i < draws; ++i) {
      const Draw draw{.temperature = temperature, .uniform = double(rng() >> 11) * 0x1p-53};
      ++counts[size_t(draw_token(logits, draw, scratch))];
    }
    double chi_square = 0;
    for (size_t i = 0; i < p.size(); ++i) {
      const double expected = draws * p[i] / total;
      chi_square += (counts[i] - expected) * (counts[i] - expected) / expected;
    }
    EXPECT_LT(chi_square, 29.9) << temperature;
  }
}

TEST(DrawWeights, AreWithinOneOfTheExponentialAndNeverRiseAsLogitsFall) {
  EXPECT_EQ(scaled_exp(0), uint64_t{1} << 40);
  EXPECT_EQ(scaled_exp(-1), 404'487'723'188u);
  EXPECT_EQ(scaled_exp(-10), 49'917'751u);
  EXPECT_EQ(scaled_exp(-28.5), 0u);
  EXPECT_EQ(scaled_exp(-1e300), 0u);
  EXPECT_EQ(scaled_exp(-double(kInfinity)), 0u);
  for (int i = 0; i < 600'000; ++i) {
    const double x = -i / 20'000.0;
    ASSERT_LE(std::fabs(double(scaled_exp(x)) - std::exp(x) * 0x1p40), 0.55) << x;
    ASSERT_GE(scaled_exp(x), scaled_exp(x - 1e-11)) << x;
  }
}

TEST(DrawWeights, PlacesAreInTheOrderOfLikelihood) {
  const float most = std::numeric_limits<float>::max(), least = std::numeric_limits<float>::denorm_min();
  const std::vector<float> falling{kInfinity, most, 2, 1, least, 0, -least, -1, -2, -most, -kInfinity};
  for (size_t i = 0; i < falling.size(); ++i) {
    EXPECT_EQ(logit_at(place_of(falling[i], 123)), falling[i]);
    EXPECT_LT(place_of(falling[i], 0), place_of(falling[i], 1));
    if (i > 0) {
      EXPECT_LT(place_of(falling[i - 1], kMostDrawnFrom - 1), place_of(falling[i], 0)) << falling[i];
    }
  }
  EXPECT_EQ(place_of(-0.0f, 7), place_of(0.0f, 7));
}

class DrawTest : public testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<Ops> ops_ = make_ops(GetParam(), 2);
};

TEST_P(DrawTest, EqualsTheDefinitionForEveryKindOfRow) {
  std::mt19937 rng(3);
  for (const auto& [vocab, count] :
       std::vector<std::pair<int64_t, size_t>>{{1, 20}, {7, 60}, {1000, 80}, {2049, 16}, {49152, 8}}) {
    SCOPED_TRACE(vocab);
    std::vector<float> logits;
    for (const Kind kind : kKinds) {
      const std::vector<float> row = logits_of(kind, vocab, uint32_t(rng()));
      logits.insert(logits.end(), row.begin(), row.end());
    }
    const Mat<const float> rows{logits.data(), int64_t(std::size(kKinds)), vocab, vocab};
    // Rows in any order, some of them several times.
    std::vector<Draw> draws;
    std::vector<int32_t> truth;
    for (size_t i = 0; i < count; ++i) {
      draws.push_back(random_draw(rng, vocab));
      draws.back().row = int64_t(rng() % std::size(kKinds));
      if (vocab > 10'000) draws.back().row = int64_t(i);
      truth.push_back(drawn_by_definition(rows.row_span(draws.back().row), draws.back()));
      EXPECT_EQ(truth.back() < 0, !is_finite(kKinds[draws.back().row]));
    }
    std::vector<int32_t> out(count);
    ops_->draw(out, rows, draws);
    for (size_t i = 0; i < count; ++i)
      EXPECT_EQ(out[i], truth[i]) << "row " << draws[i].row << ": " << draws[i].temperature << " "
                                  << draws[i].top_k << " " << draws[i].top_p << " " << draws[i].min_p << " "
                                  << draws[i].uniform;
  }
}

INSTANTIATE_TEST_SUITE_P(All, DrawTest, testing::ValuesIn(available_ops()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace stamp
