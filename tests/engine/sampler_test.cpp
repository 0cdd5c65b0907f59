#include "engine/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <set>

#include "kernels/argmax.h"
#include "kernels/error.h"

namespace stamp {
namespace {

using testing::HasSubstr;
using Biases = std::vector<std::pair<int32_t, float>>;

/// The probabilities of all tokens by the definitions, in the simplest way: Hugging Face's RepetitionPenalty,
/// Temperature, TopK, TopP and MinP warpers in that order, OpenAI's presence and frequency penalties before
/// them.
std::vector<double> probabilities(std::span<const float> logits, const SamplingParams& params,
                                  std::span<const int32_t> context, size_t prompt_size) {
  std::vector<double> z(logits.begin(), logits.end());
  const size_t n = z.size();
  for (const auto& [id, bias] : params.logit_bias) z[size_t(id)] += double(bias);
  for (size_t id = 0; id < n; ++id) {
    if (std::count(context.begin(), context.end(), int32_t(id)) > 0)
      z[id] =
          z[id] < 0 ? z[id] * double(params.repetition_penalty) : z[id] / double(params.repetition_penalty);
    const auto output = context.subspan(prompt_size);
    const auto count = double(std::count(output.begin(), output.end(), int32_t(id)));
    z[id] -= double(params.presence_penalty) * (count > 0 ? 1 : 0) + double(params.frequency_penalty) * count;
  }
  for (double& x : z) x /= double(params.temperature);

  std::vector<size_t> order(n);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return z[a] > z[b]; });
  const auto softmax = [&] {
    std::vector<double> p(n, 0.0);
    double total = 0;
    for (size_t id : order) total += std::exp(z[id] - z[order[0]]);
    for (size_t id : order) p[id] = std::exp(z[id] - z[order[0]]) / total;
    return p;
  };
  if (params.top_k > 0) order.resize(std::min(n, size_t(params.top_k)));
  if (params.top_p < 1) {
    const std::vector<double> p = softmax();
    double cumulative = 0;
    for (size_t kept = 0; kept < order.size(); ++kept)
      if ((cumulative += p[order[kept]]) >= double(params.top_p)) order.resize(kept + 1);
  }
  const std::vector<double> p = softmax();
  std::erase_if(order, [&, best = p[order[0]]](size_t id) { return p[id] < double(params.min_p) * best; });
  return softmax();
}

/// The token at the point `u` of the cumulative distribution in the order of ids.
int32_t draw(const std::vector<double>& p, double u) {
  double cumulative = 0;
  int32_t last = 0;
  for (size_t id = 0; id < p.size(); ++id) {
    if (p[id] == 0) continue;
    last = int32_t(id);
    if ((cumulative += p[id]) > u) break;
  }
  return last;
}

/// Multiples of 1/1024, so that penalties by powers of two are exact and make the same ties in float as in
/// double.
std::vector<float> random_logits(std::mt19937& rng, size_t size, bool ties) {
  std::vector<float> logits(size);
  for (float& x : logits) x = ties ? float(rng() % 7) : float(int32_t(rng() % 16001) - 8000) / 1024;
  return logits;
}

int32_t sample_copy(std::vector<float> logits, const SamplingParams& params,
                    std::span<const int32_t> context = {}, size_t prompt_size = 0) {
  return sample(logits, params, context, prompt_size);
}

/// How often each token is drawn over `positions` positions.
std::vector<int> counts_over_positions(const std::vector<float>& logits, const SamplingParams& params,
                                       size_t positions) {
  const std::vector<int32_t> context(positions);
  std::vector<int> counts(logits.size());
  for (size_t n = 0; n < positions; ++n)
    ++counts[size_t(sample_copy(logits, params, std::span(context).first(n), n))];
  return counts;
}

TEST(Sampler, UniformIsPinned) {
  // Two finalisers of SplitMix64, computed with Python's integers. Changing them would change every seeded
  // text.
  EXPECT_EQ(uniform(0, 0), 0x1.4e0dba5e9a32fp-1);
  EXPECT_EQ(uniform(1, 0), 0x1.7906ac21d0e58p-2);
  EXPECT_EQ(uniform(0, 1), 0x1.6705460be8829p-1);
  EXPECT_EQ(uniform(0xffffffffffffffffu, 123456), 0x1.4a393010fc302p-2);
}

TEST(Sampler, UniformIsEvenOverPositionsAndOverSeeds) {
  for (const bool over_seeds : {false, true}) {
    constexpr int kDraws = 64000, kBins = 64;
    std::vector<int> bins(kBins);
    double sum = 0, lagged = 0, previous = 0.5;
    for (uint64_t i = 0; i < kDraws; ++i) {
      const double u = over_seeds ? uniform(i, 17) : uniform(17, i);
      ASSERT_GE(u, 0.0);
      ASSERT_LT(u, 1.0);
      ++bins[size_t(u * kBins)];
      sum += u;
      lagged += (u - 0.5) * (previous - 0.5);
      previous = u;
    }
    double chi_square = 0;
    for (int count : bins) chi_square += (count - 1000.0) * (count - 1000.0) / 1000.0;
    EXPECT_LT(chi_square, 120) << over_seeds;  // 63 degrees of freedom: above 120 once in 60,000
    EXPECT_GT(chi_square, 25) << over_seeds;   // nor too even
    EXPECT_NEAR(sum / kDraws, 0.5, 0.005);
    EXPECT_NEAR(lagged / kDraws * 12, 0.0, 0.02);  // neighbours are not correlated
  }
}

TEST(Sampler, ZeroTemperatureTakesTheLargestAndTheLowestIdOfSeveral) {
  EXPECT_EQ(sample_copy({1, 5, 3}, {}), 1);
  EXPECT_EQ(sample_copy({1, 5, 5, 5}, {}), 1);
  EXPECT_EQ(sample_copy({-0.0f, 0.0f}, {}), 0);
  EXPECT_EQ(argmax(std::vector<float>{-3, -2, -2}), 1);
  EXPECT_EQ(sample_copy({7}, {.temperature = 1}), 0);
}

TEST(Sampler, DrawsFollowTheSoftmax) {
  const std::vector<float> logits{0.0f, 1.0f, -1.0f, 2.0f, 0.5f};
  for (const float temperature : {0.5f, 1.0f, 2.0f}) {
    const SamplingParams params{.temperature = temperature, .seed = 5};
    const std::vector<double> p = probabilities(logits, params, {}, 0);
    constexpr size_t kDraws = 20000;
    const std::vector<int> counts = counts_over_positions(logits, params, kDraws);
    double chi_square = 0;
    for (size_t i = 0; i < p.size(); ++i)
      chi_square += (counts[i] - p[i] * kDraws) * (counts[i] - p[i] * kDraws) / (p[i] * kDraws);
    EXPECT_LT(chi_square, 23.5) << temperature;  // 4 degrees of freedom: once in 10,000
  }
}

TEST(Sampler, FiltersKeepWhatTheyShould) {
  // p = 0.4, 0.3, 0.2, 0.1 in another order of ids
  const std::vector<float> logits{std::log(0.2f), std::log(0.4f), std::log(0.1f), std::log(0.3f)};
  const auto drawn = [&](SamplingParams params) {
    params.temperature = 1;
    const std::vector<int> counts = counts_over_positions(logits, params, 2000);
    std::set<int> ids;
    for (size_t i = 0; i < counts.size(); ++i)
      if (counts[i] > 0) ids.insert(int(i));
    return ids;
  };
  using Ids = std::set<int>;
  EXPECT_EQ(drawn({}), (Ids{0, 1, 2, 3}));
  EXPECT_EQ(drawn({.top_k = 1}), (Ids{1}));
  EXPECT_EQ(drawn({.top_k = 3}), (Ids{0, 1, 3}));
  EXPECT_EQ(drawn({.top_k = 99}), (Ids{0, 1, 2, 3}));
  EXPECT_EQ(drawn({.top_p = 0.39f}), (Ids{1}));
  EXPECT_EQ(drawn({.top_p = 0.41f}), (Ids{1, 3}));
  EXPECT_EQ(drawn({.top_p = 0.75f}), (Ids{0, 1, 3}));
  EXPECT_EQ(drawn({.top_p = 1e-6f}), (Ids{1}));  // never none
  EXPECT_EQ(drawn({.min_p = 0.6f}), (Ids{1, 3}));
  EXPECT_EQ(drawn({.min_p = 0.4f}), (Ids{0, 1, 3}));
  EXPECT_EQ(drawn({.min_p = 1.0f}), (Ids{1}));
  // top-p counts what top-k left: 0.4 / 0.7 is enough for 0.5, of all it would not be.
  EXPECT_EQ(drawn({.top_k = 2, .top_p = 0.5f}), (Ids{1}));
  EXPECT_EQ(drawn({.top_p = 0.5f}), (Ids{1, 3}));
}

TEST(Sampler, TopKKeepsTheLowestIdsOfATie) {
  const std::vector<int> counts = counts_over_positions({1, 1, 1, 1, 0}, {.temperature = 1, .top_k = 2}, 200);
  EXPECT_GT(counts[0], 0);
  EXPECT_GT(counts[1], 0);
  EXPECT_EQ(counts[0] + counts[1], 200);
}

TEST(Sampler, PenaltiesAsInHuggingFaceAndOpenAi) {
  // Greedy among logits that a penalty puts in another order. Prompt: 0, 1; output: 2, 2, 3.
  const std::vector<int32_t> context{0, 1, 2, 2, 3};
  const auto best = [&](std::vector<float> logits, const SamplingParams& params) {
    return sample_copy(std::move(logits), params, context, 2);
  };
  // Repetition counts the prompt, once each: 4 / 2 = 2 < 2.5, and -1 * 2 = -2 < -1.5.
  EXPECT_EQ(best({4, 0, 0, 0, 2.5f}, {}), 0);
  EXPECT_EQ(best({4, 0, 0, 0, 2.5f}, {.repetition_penalty = 2}), 4);
  EXPECT_EQ(best({0, 0, 4, 0, 1.5f}, {.repetition_penalty = 2}), 2);
  EXPECT_EQ(best({-1, -9, -9, -9, -1.5f}, {.repetition_penalty = 2}), 4);
  EXPECT_EQ(best({2, 0, 0, 0, 3}, {.repetition_penalty = 0.5f}), 0);  // below 1 rewards
  // Presence is subtracted once and for the output alone.
  EXPECT_EQ(best({0, 0, 3, 0, 1.5f}, {.presence_penalty = 2}), 4);
  EXPECT_EQ(best({0, 0, 3, 0, 0.5f}, {.presence_penalty = 2}), 2);
  EXPECT_EQ(best({0, 3, 0, 0, 1.5f}, {.presence_penalty = 2}), 1);
  // Frequency as often as the token came.
  EXPECT_EQ(best({0, 0, 3, 0, 1.5f}, {.frequency_penalty = 1}), 4);
  EXPECT_EQ(best({0, 0, 0, 3, 1.5f}, {.frequency_penalty = 1}), 3);
  EXPECT_EQ(best({0, 0, 3, 0, 4}, {.frequency_penalty = -1}), 2);
}

TEST(Sampler, LogitBiasIsAddedFirst) {
  EXPECT_EQ(sample_copy({1, 2, 3}, {.logit_bias = {{0, 2.5f}}}), 0);
  EXPECT_EQ(sample_copy({1, 2, 3}, {.logit_bias = {{2, -100}}}), 1);
  EXPECT_EQ(sample_copy({1, 2, 3}, {.logit_bias = Biases{{0, 1.5f}, {0, 1.5f}}}), 0);  // twice is the sum
  // 1 + 4 = 5, halved by the repetition penalty: 2.5 < 3. The other way round it would be 4.5.
  EXPECT_EQ(
      sample_copy({1, 2, 3}, {.repetition_penalty = 2, .logit_bias = {{0, 4}}}, std::vector<int32_t>{0}, 1),
      2);
  for (uint64_t seed = 0; seed < 200; ++seed)
    EXPECT_EQ(sample_copy({0, 0, 0}, {.temperature = 2, .seed = seed, .logit_bias = {{1, 100}}}), 1);
}

/// Every parameter at once against the definitions. A draw within rounding of a boundary may go either way;
/// the values of top-p are no sums of equal shares.
TEST(Sampler, EqualsTheDefinitionsForRandomParameters) {
  std::mt19937 rng(3);
  const auto pick = [&](std::initializer_list<float> choices) {
    return choices.begin()[rng() % choices.size()];
  };
  int drawn = 0, on_boundary = 0;
  for (int round = 0; round < 10000; ++round) {
    const size_t vocab = size_t(pick({1, 2, 5, 40, 300}));
    const std::vector<float> logits = random_logits(rng, vocab, round % 3 == 0);
    SamplingParams params{.temperature = pick({0.3f, 1.0f, 1.7f}),
                          .top_k = int32_t(pick({0, 1, 3, 20, 1000})),
                          .top_p = pick({1.0f, 0.93f, 0.53f, 0.07f}),
                          .min_p = pick({0.0f, 0.02f, 0.3f}),
                          .repetition_penalty = pick({1.0f, 2.0f, 0.5f}),
                          .presence_penalty = pick({0.0f, 1.5f, -0.5f}),
                          .frequency_penalty = pick({0.0f, 0.75f, -0.25f}),
                          .seed = rng()};
    if (rng() % 3 == 0) params.logit_bias = {{int32_t(rng() % vocab), 3.0f}, {int32_t(rng() % vocab), -2.0f}};
    std::vector<int32_t> context(rng() % 30);
    for (int32_t& id : context) id = int32_t(rng() % vocab);
    const size_t prompt_size = context.empty() ? 0 : rng() % context.size();

    const double u = uniform(params.seed, context.size());
    const std::vector<double> p = probabilities(logits, params, context, prompt_size);
    const int32_t token = sample_copy(logits, params, context, prompt_size);
    ++drawn;
    if (draw(p, u - 1e-6) != draw(p, u + 1e-6)) {
      ++on_boundary;
      continue;
    }
    EXPECT_EQ(token, draw(p, u)) << "round " << round << ", vocabulary " << vocab;
  }
  EXPECT_LT(on_boundary, drawn / 200);
}

TEST(Sampler, ADrawDependsOnSeedAndPositionAlone) {
  std::mt19937 rng(4);
  const std::vector<float> logits = random_logits(rng, 100, false);
  const std::vector<int32_t> context(50, 3), other(50, 8);
  const SamplingParams params{.temperature = 2, .seed = 11};
  const int32_t first = sample_copy(logits, params, context, 10);
  for (int i = 0; i < 5; ++i) sample_copy(logits, params, std::span(context).first(size_t(i)), 0);
  EXPECT_EQ(sample_copy(logits, params, context, 10), first);  // no state between calls
  EXPECT_EQ(sample_copy(logits, params, other, 40), first);    // other tokens, same position
  int differ = 0;
  for (uint64_t seed = 0; seed < 50; ++seed)
    differ += sample_copy(logits, {.temperature = 2, .seed = seed}, context, 10) != first ? 1 : 0;
  EXPECT_GT(differ, 40);
  std::set<int32_t> over_positions;
  for (size_t n = 0; n < 50; ++n)
    over_positions.insert(sample_copy(logits, params, std::span(context).first(n), n));
  EXPECT_GT(over_positions.size(), 20u);
}

TEST(Sampler, TokensOutsideTheVocabularyAreNotPenalised) {
  const std::vector<int32_t> context{-1, 3, 1000000};
  EXPECT_EQ(sample_copy({1, 2, 3}, {.repetition_penalty = 2, .presence_penalty = 1}, context, 0), 2);
}

TEST(Sampler, LogitsThatAreNoNumbersAreAnError) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::quiet_NaN(),
                          std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()})
    for (const float temperature : {0.0f, 1.0f})
      EXPECT_THROW(sample_copy({1, 2, bad, 3}, {.temperature = temperature}), Error);
  const float largest = std::numeric_limits<float>::max();
  EXPECT_EQ(sample_copy({-largest, largest}, {.temperature = 1}), 1);
}

TEST(Sampler, ParametersOutOfRangeAreRefusedByName) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  const std::vector<std::pair<SamplingParams, const char*>> cases{
      {{.temperature = -0.1f}, "temperature"},
      {{.temperature = nan}, "temperature"},
      {{.temperature = inf}, "temperature"},
      {{.top_k = -1}, "top_k"},
      {{.top_p = 0}, "top_p"},
      {{.top_p = 1.1f}, "top_p"},
      {{.top_p = nan}, "top_p"},
      {{.min_p = -0.1f}, "min_p"},
      {{.min_p = 1.1f}, "min_p"},
      {{.min_p = nan}, "min_p"},
      {{.repetition_penalty = 0}, "repetition penalty"},
      {{.repetition_penalty = nan}, "repetition penalty"},
      {{.repetition_penalty = inf}, "repetition penalty"},
      {{.presence_penalty = 2.1f}, "presence penalty"},
      {{.presence_penalty = nan}, "presence penalty"},
      {{.frequency_penalty = -2.1f}, "frequency penalty"},
      {{.logit_bias = {{100, 1}}}, "logit bias names token 100"},
      {{.logit_bias = {{-1, 1}}}, "logit bias names token -1"},
      {{.logit_bias = {{1, 101}}}, "logit bias must be"},
      {{.logit_bias = {{1, nan}}}, "logit bias must be"}};
  for (const auto& [params, word] : cases) {
    try {
      params.validate(100);
      ADD_FAILURE() << word << " was accepted";
    } catch (const InputError& e) {
      EXPECT_THAT(e.what(), HasSubstr(word));
    }
  }
  EXPECT_NO_THROW((SamplingParams{.temperature = 5,
                                  .top_k = 1000,
                                  .top_p = 1,
                                  .min_p = 1,
                                  .repetition_penalty = 1e-3f,
                                  .presence_penalty = -2,
                                  .frequency_penalty = 2,
                                  .seed = ~uint64_t{0},
                                  .logit_bias = {{99, -100}}}
                       .validate(100)));
}

}  // namespace
}  // namespace stamp
