#pragma once
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "kernels/ops.h"

namespace stamp {

/// Natural logarithm of the probability of a token, and the likeliest tokens in its place, best first, the
/// lowest id on ties.
struct TokenLogprob {
  int32_t token = 0;
  float logprob = 0.0f;
  std::vector<std::pair<int32_t, float>> top{};
};

/// Under the softmax of `logits` [vocab]: of `token` and of the `top` likeliest.
TokenLogprob token_logprob(Ops& ops, std::span<float> logits, int32_t token, int top);

}  // namespace stamp
