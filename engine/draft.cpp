#include "engine/draft.h"

#include <algorithm>

namespace stamp {

std::span<const int32_t> NgramDraft::propose(std::span<const int32_t> tokens, int64_t most) {
  if (pause_ > 0) {
    --pause_;
    return {};
  }
  most = std::min(most, length_);
  if (most <= 0) return {};
  constexpr size_t kLongest = 4, kShortest = 2;
  for (size_t n = kLongest; n >= kShortest; --n) {
    if (tokens.size() <= n) continue;
    const auto last = tokens.last(n);
    for (size_t end = tokens.size() - 1; end >= n; --end)  // the latest place counts
      if (std::ranges::equal(tokens.subspan(end - n, n), last))
        return tokens.subspan(end, std::min(size_t(most), tokens.size() - end));
  }
  return {};
}

void NgramDraft::judge(int64_t proposed, int64_t accepted) {
  constexpr int64_t kLongestWait = 16;
  length_ = accepted == proposed ? std::min(kMostTokens, 2 * length_) : std::max<int64_t>(1, accepted + 1);
  wait_ = accepted > 0 ? 0 : std::clamp<int64_t>(2 * wait_, 1, kLongestWait);
  pause_ = wait_;
}

}  // namespace stamp
