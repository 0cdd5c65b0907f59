#include "engine/logprobs.h"

#include <algorithm>
#include <ranges>

namespace stamp {

TokenLogprob token_logprob(Ops& ops, std::span<float> logits, int32_t token, int top) {
  std::vector<int32_t> ids(std::min(logits.size(), size_t(top)));
  std::ranges::partial_sort_copy(std::views::iota(int32_t{0}, int32_t(logits.size())), ids,
                                 [&](int32_t a, int32_t b) {
                                   const float x = logits[size_t(a)], y = logits[size_t(b)];
                                   return x != y ? x > y : a < b;
                                 });
  ids.push_back(token);
  std::vector<float> logprobs(ids.size());
  // The same row once for each token.
  ops.token_logprobs(logprobs, {logits.data(), int64_t(ids.size()), int64_t(logits.size()), 0}, ids);
  TokenLogprob result{.token = token, .logprob = logprobs.back()};
  for (size_t i = 0; i + 1 < ids.size(); ++i) result.top.emplace_back(ids[i], logprobs[i]);
  return result;
}

}  // namespace stamp
