#pragma once
#include <string_view>
#include <vector>

#include "engine/perplexity.h"

namespace stamp {

/// How far one model is from another on a text, both scored in the same pass.
struct Comparison {
  PerplexityResult model, reference;
  std::vector<float> kl;        // KL(reference || model) of each scored token's distribution, nats
  double kl_mean = 0;           // over the scored tokens
  double kl_p99 = 0;            // 99 of 100 tokens have at most this
  double top1_agreement = 0;    // share of tokens for which both models' most likely token is the same
  double delta_ppl = 0;         // the model's perplexity minus the reference's
  double delta_ppl_stderr = 0;  // of the paired difference: what both find hard about a token cancels
};

/// Scores `text` as perplexity() does, chunk after chunk in both engines, so that only a chunk's logits exist
/// at a time. The engines must share a tokenizer. Throws InputError if they do not, for a text too short, and
/// for options.resume, which keeps no comparison.
Comparison compare(
    Engine& model, Engine& reference, std::string_view text, const PerplexityOptions& options,
    const std::function<void(int64_t done, int64_t total, const Comparison& so_far)>& progress);

}  // namespace stamp
