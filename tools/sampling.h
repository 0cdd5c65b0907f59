#pragma once
#include <optional>

#include "engine/sampler.h"
#include "models/config.h"

namespace stamp {

/// What was asked of the sampler, on the command line or in a request. What was not comes from
/// generation_config.json, if that asks for sampling, else decoding is greedy.
struct SamplingChoice {
  std::optional<float> temperature{}, top_p{}, min_p{};
  std::optional<float> repetition_penalty{}, presence_penalty{}, frequency_penalty{};
  std::optional<int32_t> top_k{};
  std::vector<std::pair<int32_t, float>> logit_bias{};

  /// With seed 0.
  SamplingParams resolve(const GenerationConfig& config) const;
};

}  // namespace stamp
