#include "engine/logprobs.h"

#include <algorithm>
#include <ranges>

namespace stamp {

TokenLogprob token_logprob(Ops& ops, std::span<float> logits, int32_t token, int top) {
  std::vector<int32_t> ids(std::min(logits.size(), size_t(std::max(1, top))));
  std::ranges::partial_sort_copy(std::views::iota(int32_t{0}, int32_t(logits.size())), ids,
                                 [&](int32_t a, int32_t b) {
                                   const float x = logits[size_t(a)], y = logits[size_t(b)];
                                   return x != y ? x > y : a < b;
                                 });
  // One sum over the vocabulary, for the likeliest token; the others are as far from it as their logits.
  float best = 0;
  ops.token_logprobs({&best, 1}, {logits.data(), 1, int64_t(logits.size()), 0}, std::span(ids).first(1));
  const double log_sum = double(logits[size_t(ids.front())]) - double(best);
  const auto logprob = [&](int32_t id) { return float(double(logits[size_t(id)]) - log_sum); };
  TokenLogprob result{.token = token, .logprob = logprob(token)};
  if (top > 0)
    for (int32_t id : ids) result.top.emplace_back(id, logprob(id));
  return result;
}

}  // namespace stamp
