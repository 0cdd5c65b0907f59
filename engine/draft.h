#pragma once
#include <cstdint>
#include <span>

namespace stamp {

/// How the tokens to come are guessed, so that one forward pass can confirm several of them. A guess never
/// changes the text: a token is drawn from the same bits of its logits with or without it.
enum class Draft : uint8_t {
  kNone,
  kNgram  // prompt lookup: what followed the same few tokens earlier in prompt and answer
};

/// Guesses by prompt lookup, a form of speculative decoding without a draft model (arXiv 2211.17192 for the
/// principle). Guesses become longer while they hold, and rarer while none does.
class NgramDraft {
 public:
  static constexpr int64_t kMostTokens = 15;

  /// What may follow `tokens`, at most `most` of them; a part of `tokens`, or empty.
  std::span<const int32_t> propose(std::span<const int32_t> tokens, int64_t most);
  /// Of the last proposal, which was not empty, so many were right.
  void judge(int64_t proposed, int64_t accepted);

 private:
  int64_t length_ = 4, pause_ = 0, wait_ = 0;  // pause_: steps without a guess still to come
};

}  // namespace stamp
