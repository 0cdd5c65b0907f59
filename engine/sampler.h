#pragma once
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "engine/constraint.h"
#include "kernels/draw.h"

namespace stamp {

/// How the next token is drawn. The steps, in this order: logit bias; repetition penalty (divides positive
/// and multiplies negative logits of every token in prompt or output, as Hugging Face); presence and
/// frequency penalty (over the output alone, as OpenAI); the constraint; temperature; top-k; top-p; min-p.
/// Zero temperature is greedy.
struct SamplingParams {
  float temperature = 0.0f;         // >= 0
  int32_t top_k = 0;                // 0: off
  float top_p = 1.0f;               // (0, 1]
  float min_p = 0.0f;               // [0, 1]: keep tokens with p >= min_p * max p
  float repetition_penalty = 1.0f;  // > 0
  float presence_penalty = 0.0f;    // [-2, 2]
  float frequency_penalty = 0.0f;   // [-2, 2]
  uint64_t seed = 0;
  std::vector<std::pair<int32_t, float>> logit_bias{};  // token id, added to its logit

  /// Throws InputError naming the first parameter out of range.
  void validate(int64_t vocab_size) const;
  /// Whether no step before the temperature changes logits.
  bool leaves_logits() const;
  /// What follows these steps at a position, for a row of logits. Precondition: the temperature is not zero.
  Draw draw(uint64_t position, int64_t row) const;
};

/// Draws the token that follows `context`, whose last `context.size() - prompt_size` tokens were generated.
/// The draw is a function of the logits, the parameters, and the position context.size(): no state, so a
/// repeated or rescheduled request draws the same. `logits` [vocab] is clobbered. Ties go to the lowest id.
/// A constraint that is not null masks tokens; the caller advances it.
/// Throws Error if a logit is not a finite number, or the constraint leaves no token.
int32_t sample(std::span<float> logits, const SamplingParams& params, std::span<const int32_t> context,
               size_t prompt_size, TokenConstraint* constraint = nullptr);

/// A uniform number in [0, 1) that depends on the two arguments alone.
double uniform(uint64_t seed, uint64_t position);

}  // namespace stamp
