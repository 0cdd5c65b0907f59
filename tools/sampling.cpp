#include "tools/sampling.h"

namespace stamp {

SamplingParams SamplingChoice::resolve(const GenerationConfig& config) const {
  SamplingParams params;
  const bool from_config = config.do_sample;
  params.temperature = temperature.value_or(from_config ? config.temperature.value_or(1.0f) : 0.0f);
  params.top_k = top_k.value_or(from_config ? config.top_k.value_or(0) : 0);
  params.top_p = top_p.value_or(from_config ? config.top_p.value_or(1.0f) : 1.0f);
  params.min_p = min_p.value_or(from_config ? config.min_p.value_or(0.0f) : 0.0f);
  params.repetition_penalty = repetition_penalty.value_or(config.repetition_penalty.value_or(1.0f));
  params.presence_penalty = presence_penalty.value_or(0.0f);
  params.frequency_penalty = frequency_penalty.value_or(0.0f);
  params.logit_bias = logit_bias;
  return params;
}

}  // namespace stamp
