#include "engine/logprobs.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "kernels/ops.h"

namespace stamp {
namespace {

class LogprobsTest : public testing::Test {
 protected:
  std::unique_ptr<Ops> ops_ = make_ops("", 1);
  std::vector<float> logits_ = [] {
    std::mt19937 random(3);
    std::vector<float> logits(1000);
    for (float& x : logits) x = float(int32_t(random() % 4000) - 2000) / 100;
    return logits;
  }();
};

TEST_F(LogprobsTest, AreThoseOfTheSoftmax) {
  double total = 0;
  for (float x : logits_) total += std::exp(double(x));
  for (int32_t token : {0, 17, 999})
    for (int top : {0, 1, 20}) {
      const TokenLogprob found = token_logprob(*ops_, logits_, token, top);
      EXPECT_EQ(found.token, token);
      EXPECT_NEAR(found.logprob, double(logits_[size_t(token)]) - std::log(total), 1e-5);
      ASSERT_EQ(found.top.size(), size_t(top));
      for (const auto& [id, logprob] : found.top)
        EXPECT_NEAR(logprob, double(logits_[size_t(id)]) - std::log(total), 1e-5);
    }
}

/// Whether a token was the likeliest is told by its logprob being the first in the list: bit for bit.
TEST_F(LogprobsTest, OfATokenDoesNotDependOnHowManyAreAsked) {
  const TokenLogprob all = token_logprob(*ops_, logits_, 0, int(logits_.size()));
  for (const auto& [id, logprob] : all.top)
    for (int top : {0, 1, 5}) EXPECT_EQ(token_logprob(*ops_, logits_, id, top).logprob, logprob);
}

TEST_F(LogprobsTest, TheLikeliestComeFirstTheLowestIdOnTies) {
  logits_[700] = logits_[30] = logits_[400] = 50.0f;
  const TokenLogprob found = token_logprob(*ops_, logits_, 400, 4);
  EXPECT_EQ(found.top[0].first, 30);
  EXPECT_EQ(found.top[1].first, 400);
  EXPECT_EQ(found.top[2].first, 700);
  EXPECT_EQ(found.logprob, found.top[0].second);
  EXPECT_LT(found.top[3].second, found.logprob);
}

TEST_F(LogprobsTest, ImpossibleTokensHaveMinusInfinity) {
  logits_[5] = -std::numeric_limits<float>::infinity();
  EXPECT_EQ(token_logprob(*ops_, logits_, 5, 1).logprob, -std::numeric_limits<float>::infinity());
  EXPECT_EQ(token_logprob(*ops_, logits_, 6, 5000).top.size(), logits_.size());
}

}  // namespace
}  // namespace stamp
