#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <unordered_map>

#include "engine/logits.h"
#include "kernels/argmax.h"
#include "kernels/error.h"

namespace stamp {
namespace {

void require(bool valid, const std::string& message) {
  if (!valid) throw InputError(message);
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014): a bijection that scrambles every bit.
uint64_t mix(uint64_t x) {
  x ^= x >> 30;
  x *= 0xbf58476d1ce4e5b9u;
  x ^= x >> 27;
  x *= 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

void penalise(std::span<float> logits, const SamplingParams& params, std::span<const int32_t> context,
              size_t prompt_size) {
  const auto in_vocab = [&](int32_t id) { return id >= 0 && size_t(id) < logits.size(); };
  if (params.repetition_penalty != 1.0f) {
    std::vector<int32_t> seen(context.begin(), context.end());
    std::sort(seen.begin(), seen.end());
    seen.erase(std::unique(seen.begin(), seen.end()), seen.end());
    for (int32_t id : seen) {
      if (!in_vocab(id)) continue;
      float& logit = logits[size_t(id)];
      logit = logit > 0 ? logit / params.repetition_penalty : logit * params.repetition_penalty;
    }
  }
  if (params.presence_penalty != 0.0f || params.frequency_penalty != 0.0f) {
    std::unordered_map<int32_t, int> counts;
    for (int32_t id : context.subspan(prompt_size)) ++counts[id];
    for (const auto& [id, count] : counts)
      if (in_vocab(id))
        logits[size_t(id)] -= params.presence_penalty + params.frequency_penalty * float(count);
  }
}

}  // namespace

double uniform(uint64_t seed, uint64_t position) {
  constexpr uint64_t kGolden = 0x9e3779b97f4a7c15u;
  return double(mix(mix(seed + kGolden) + kGolden * (position + 1)) >> 11) * 0x1p-53;
}

void SamplingParams::validate(int64_t vocab_size) const {
  const auto number = [](float x) { return std::to_string(x); };
  require(std::isfinite(temperature) && temperature >= 0,
          "temperature must be a number >= 0, got " + number(temperature));
  require(top_k >= 0, "top_k must be >= 0 (0 is off), got " + std::to_string(top_k));
  require(top_p > 0 && top_p <= 1, "top_p must be in (0, 1], got " + number(top_p));
  require(min_p >= 0 && min_p <= 1, "min_p must be in [0, 1], got " + number(min_p));
  require(std::isfinite(repetition_penalty) && repetition_penalty > 0,
          "repetition penalty must be > 0, got " + number(repetition_penalty));
  require(std::fabs(presence_penalty) <= 2,
          "presence penalty must be in [-2, 2], got " + number(presence_penalty));
  require(std::fabs(frequency_penalty) <= 2,
          "frequency penalty must be in [-2, 2], got " + number(frequency_penalty));
  for (const auto& [id, bias] : logit_bias) {
    require(id >= 0 && id < vocab_size, "logit bias names token " + std::to_string(id) +
                                            ", the vocabulary has " + std::to_string(vocab_size));
    require(std::fabs(bias) <= 100, "logit bias must be in [-100, 100], got " + number(bias));
  }
}

bool SamplingParams::leaves_logits() const {
  return logit_bias.empty() && repetition_penalty == 1.0f && presence_penalty == 0.0f &&
         frequency_penalty == 0.0f;
}

Draw SamplingParams::draw(uint64_t position, int64_t row) const {
  return {.temperature = temperature,
          .top_k = top_k,
          .top_p = top_p,
          .min_p = min_p,
          .uniform = uniform(seed, position),
          .row = row};
}

int32_t sample(std::span<float> logits, const SamplingParams& params, std::span<const int32_t> context,
               size_t prompt_size, TokenConstraint* constraint) {
  if (!all_finite(logits)) fail_not_finite();
  for (const auto& [id, bias] : params.logit_bias) logits[size_t(id)] += bias;
  penalise(logits, params, context, prompt_size);
  if (constraint != nullptr) constraint->mask(logits);
  const int32_t likeliest = argmax(logits);
  const float peak = logits[size_t(likeliest)];
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  if (peak == -kInfinity)
    throw Error("no token may follow: the constraint on the text has come to a dead end");
  // Bias and penalties may overflow.
  if (params.temperature == 0.0f || peak == kInfinity) return likeliest;
  const size_t size = 2 * logits.size();
  const auto scratch = std::make_unique_for_overwrite<uint64_t[]>(size);
  return draw_token(logits, params.draw(context.size(), 0), {scratch.get(), size});
}

}  // namespace stamp
