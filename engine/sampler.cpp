#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
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

struct Candidate {
  float logit;
  int32_t id;
  /// Most likely first, lowest id on ties: a total order, so the selection is deterministic.
  bool operator<(const Candidate& other) const {
    return logit != other.logit ? logit > other.logit : id < other.id;
  }
};

/// Number of leading candidates whose probability reaches top_p; at least one. `candidates` is sorted as far
/// as that.
size_t nucleus(std::vector<Candidate>& candidates, float top_p, double total, float peak, float temperature) {
  double cumulative = 0;
  size_t sorted = 0;
  for (size_t i = 0; i < candidates.size(); ++i) {
    if (i == sorted) {  // sort in growing pieces: the nucleus is short as a rule
      sorted = std::min(candidates.size(), std::max<size_t>(64, 2 * sorted));
      std::partial_sort(candidates.begin() + ptrdiff_t(i), candidates.begin() + ptrdiff_t(sorted),
                        candidates.end());
    }
    cumulative += std::exp(double(candidates[i].logit - peak) / double(temperature));
    if (cumulative >= double(top_p) * total) return i + 1;
  }
  return candidates.size();
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

bool SamplingParams::takes_likeliest() const {
  return temperature == 0.0f && logit_bias.empty() && repetition_penalty == 1.0f &&
         presence_penalty == 0.0f && frequency_penalty == 0.0f;
}

int32_t sample(std::span<float> logits, const SamplingParams& params, std::span<const int32_t> context,
               size_t prompt_size, TokenConstraint* constraint) {
  // Anything else would upset the order that selection relies on.
  if (!all_finite(logits)) fail_not_finite();
  for (const auto& [id, bias] : params.logit_bias) logits[size_t(id)] += bias;
  penalise(logits, params, context, prompt_size);
  if (constraint != nullptr) constraint->mask(logits);
  const int32_t likeliest = argmax(logits);
  const float peak = logits[size_t(likeliest)];
  constexpr float kMasked = -std::numeric_limits<float>::infinity();
  if (peak == kMasked) throw Error("no token may follow: the constraint on the text has come to a dead end");
  if (params.temperature == 0.0f) return likeliest;

  const auto weight = [&](float logit) {
    return std::exp(double(logit - peak) / double(params.temperature));
  };
  std::vector<Candidate> candidates;
  candidates.reserve(logits.size());
  for (size_t i = 0; i < logits.size(); ++i)
    if (logits[i] != kMasked) candidates.push_back({logits[i], int32_t(i)});
  if (params.top_k > 0 && size_t(params.top_k) < candidates.size()) {
    std::nth_element(candidates.begin(), candidates.begin() + params.top_k, candidates.end());
    candidates.resize(size_t(params.top_k));
  }
  if (params.top_p < 1.0f) {
    double total = 0;
    for (const Candidate& c : candidates) total += weight(c.logit);
    candidates.resize(nucleus(candidates, params.top_p, total, peak, params.temperature));
  }
  if (params.min_p > 0.0f)
    std::erase_if(candidates, [&](const Candidate& c) { return weight(c.logit) < double(params.min_p); });

  // Inverse of the cumulative distribution, in order of ids so that it does not hang on a selection's order.
  const auto by_id = [](const Candidate& a, const Candidate& b) { return a.id < b.id; };
  if (!std::is_sorted(candidates.begin(), candidates.end(), by_id))
    std::sort(candidates.begin(), candidates.end(), by_id);
  std::vector<double> cumulative(candidates.size());
  double total = 0;
  for (size_t i = 0; i < candidates.size(); ++i) cumulative[i] = total += weight(candidates[i].logit);
  const double target = uniform(params.seed, context.size()) * total;
  const auto drawn = std::upper_bound(cumulative.begin(), cumulative.end(), target) - cumulative.begin();
  return candidates[std::min(size_t(drawn), candidates.size() - 1)].id;
}

}  // namespace stamp
