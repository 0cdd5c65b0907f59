#include "engine/compare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/error.h"
#include "tests/engine/tiny_engine.h"

namespace stamp {
namespace {

using testing::HasSubstr;

std::string sample_text() {
  std::string text;
  for (uint32_t i = 0; i < 700; ++i) text += char('a' + (i * 2654435761u >> 27) % 26);
  return text;
}

/// Log probabilities of every row of a window.
std::vector<std::vector<double>> log_softmax_rows(Engine& engine, std::span<const int32_t> tokens) {
  std::vector<std::vector<double>> rows;
  Session session(engine);
  session.advance_all(tokens, 0, 64, [&](int64_t, Logits& logits) {
    for (int64_t r = 0; r < logits.rows(); ++r) {
      const std::span<float> of_row = logits.host(r);
      std::vector<double> row(of_row.begin(), of_row.end());
      double sum = 0;
      for (double x : row) sum += std::exp(x);
      for (double& x : row) x -= std::log(sum);
      rows.push_back(row);
    }
  });
  return rows;
}

TEST(Compare, EqualsTheDefinitions) {
  TinyEngine model(random_model(3)), reference(random_model(4));
  const std::string text = sample_text();
  const PerplexityOptions options{.context = 300, .max_chunks = 2};
  const Comparison c = compare(model, reference, text, options, {});
  std::vector<double> kl, difference;
  double agreements = 0;
  for (int64_t begin : {0, 300}) {
    const auto ids = bytes_of(text.substr(size_t(begin), 300));
    const auto p = log_softmax_rows(reference, ids), q = log_softmax_rows(model, ids);
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      double sum = 0;
      for (size_t v = 0; v < p[i].size(); ++v) sum += std::exp(p[i][v]) * (p[i][v] - q[i][v]);
      kl.push_back(sum);
      agreements += std::max_element(p[i].begin(), p[i].end()) - p[i].begin() ==
                    std::max_element(q[i].begin(), q[i].end()) - q[i].begin();
      const auto target = size_t(ids[i + 1]);
      difference.push_back(-c.model.ppl * q[i][target] + c.reference.ppl * p[i][target]);
    }
  }
  ASSERT_EQ(c.kl.size(), kl.size());
  double mean = 0;
  for (size_t i = 0; i < kl.size(); ++i) {
    EXPECT_NEAR(double(c.kl[i]), kl[i], 1e-5 * (1 + kl[i])) << i;
    mean += kl[i] / double(kl.size());
  }
  EXPECT_NEAR(c.kl_mean, mean, 1e-5 * mean);
  std::sort(kl.begin(), kl.end());
  EXPECT_NEAR(c.kl_p99, kl[size_t(std::ceil(0.99 * double(kl.size()))) - 1], 1e-5);
  EXPECT_DOUBLE_EQ(c.top1_agreement, agreements / double(kl.size()));
  EXPECT_DOUBLE_EQ(c.delta_ppl, c.model.ppl - c.reference.ppl);
  double sum = 0, square = 0;
  const double n = double(difference.size());
  for (double x : difference) sum += x / n;
  for (double x : difference) square += (x - sum) * (x - sum);
  EXPECT_NEAR(c.delta_ppl_stderr, std::sqrt(square / (n - 1) / n), 1e-4 * c.delta_ppl_stderr);
}

TEST(Compare, ScoresBothAsPerplexityDoesAlone) {
  TinyEngine model(random_model(3)), reference(random_model(4));
  for (const Protocol protocol :
       {Protocol::kGptq, Protocol::kStrided, Protocol::kLlamaCpp, Protocol::kDocument}) {
    const PerplexityOptions options{.protocol = protocol, .context = 100};
    const Comparison c = compare(model, reference, sample_text(), options, {});
    const PerplexityResult a = perplexity(model, sample_text(), options, {});
    const PerplexityResult b = perplexity(reference, sample_text(), options, {});
    EXPECT_EQ(c.model.nll, a.nll) << protocol_name(protocol);
    EXPECT_EQ(c.reference.nll, b.nll);
    EXPECT_EQ(c.model.ppl_stderr, a.ppl_stderr);
    EXPECT_EQ(c.model.bits_per_byte, a.bits_per_byte);
    EXPECT_EQ(int64_t(c.kl.size()), a.tokens_scored);
  }
}

TEST(Compare, AModelAgreesWithItself) {
  TinyEngine model(random_model(3)), same(random_model(3));
  const Comparison c = compare(model, same, sample_text(), {.context = 128}, {});
  EXPECT_NEAR(c.kl_mean, 0.0, 1e-6);
  EXPECT_EQ(c.top1_agreement, 1.0);
  EXPECT_EQ(c.delta_ppl, 0.0);
  EXPECT_EQ(c.delta_ppl_stderr, 0.0);
}

TEST(Compare, RefusesAResumeState) {
  TinyEngine model(random_model(3)), same(random_model(3));
  try {
    compare(model, same, sample_text(), {.context = 128, .resume = "state.json"}, {});
    FAIL() << "accepted";
  } catch (const InputError& e) {
    EXPECT_THAT(e.what(), HasSubstr("--resume does not keep comparisons"));
  }
}

}  // namespace
}  // namespace stamp
