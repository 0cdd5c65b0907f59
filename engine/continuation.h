#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/constraint.h"
#include "engine/draft.h"
#include "engine/logits.h"
#include "engine/sampler.h"
#include "engine/stop.h"
#include "models/tokenizer.h"

namespace stamp {

class Engine;

struct GenerateRequest {
  std::vector<int32_t> prompt{};  // not empty
  int64_t max_tokens = 128;
  SamplingParams sampling{};
  std::vector<std::string> stops{};  // the text ends before the first of these
  Draft draft = Draft::kNone;        // for generate(); batches compute enough tokens at once
  bool ignore_eos = false;           // go on after an end-of-sequence token, unless a constraint wants it
};

/// A prompt and the text that follows it, token by token: draws from logits, decodes, finds the end. Where
/// the logits come from is not its business.
class Continuation {
 public:
  /// `engine` must outlive this. Throws InputError for an empty prompt, a prompt that does not fit, ids that
  /// are not in the vocabulary, or parameters out of range. `constraint` may be null.
  Continuation(const Engine& engine, GenerateRequest request,
               std::unique_ptr<TokenConstraint> constraint = nullptr);

  /// Prompt and generated tokens.
  std::span<const int32_t> tokens() const { return tokens_; }
  std::span<const int32_t> prompt() const { return tokens().first(request_.prompt.size()); }
  std::span<const int32_t> generated() const { return tokens().subspan(request_.prompt.size()); }

  enum class Finish { kStop, kLength };
  /// Set once no more tokens are wanted; at once if none were.
  std::optional<Finish> finish() const { return finish_; }

  /// Draws the token that follows tokens() and returns the text that has become certain, in whole characters;
  /// of the last token, all that was held back. Precondition: not finished. `logits` [vocab] is clobbered.
  std::string draw(std::span<float> logits);
  /// The same of a row of `logits`, of which the host sees no more than it needs. wish() of the row comes
  /// before: rows of several texts are drawn at once if all have wished.
  void wish(Logits& logits, int64_t row) const;
  std::string draw(Logits& logits, int64_t row);
  /// The text held back, if no more tokens shall be drawn before it has finished.
  std::string rest();

 private:
  bool draws_in_place() const { return constraint_ == nullptr && request_.sampling.leaves_logits(); }
  std::string append(int32_t token);

  const Engine& engine_;
  GenerateRequest request_;
  std::unique_ptr<TokenConstraint> constraint_;
  StopMatcher stop_;
  StreamDecoder decoder_;
  std::vector<int32_t> tokens_;
  std::optional<Finish> finish_;
};

}  // namespace stamp
