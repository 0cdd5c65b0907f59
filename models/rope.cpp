#include "models/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace stamp {
namespace {

// The angle of position 2,000 magnifies an error of its frequency 2,000 times, so the frequencies are rounded
// to float where transformers rounds them: exponent, power, reciprocal and each step of the scalings.

constexpr double kTau = 2.0 * std::numbers::pi;

/// theta^(2 pair / head_dim): the inverse frequency of a pair, over which it turns by one radian.
float period(int64_t pair, const ModelConfig& config) {
  const float exponent = float(2 * pair) / float(config.head_dim);
  return float(std::pow(double(float(config.rope_theta)), double(exponent)));
}

/// Llama 3.1: long wavelengths are slowed by `factor`, short ones kept, those between blended linearly in the
/// number of turns they make over the original context.
float llama3(float frequency, const RopeScaling& s) {
  const float factor = float(s.factor), low = float(s.low_freq_factor);
  const double context = double(s.original_max_position_embeddings);
  const float wavelength = float(kTau) / frequency;
  if (wavelength > float(context / s.low_freq_factor)) return frequency / factor;
  if (wavelength < float(context / s.high_freq_factor)) return frequency;
  const float blend = (float(context) / wavelength - low) / float(s.high_freq_factor - s.low_freq_factor);
  return (1.0f - blend) * frequency / factor + blend * frequency;
}

/// YaRN (section 3.2): the pair index at which a frequency makes `turns` turns over the original context.
double yarn_pair(double turns, const ModelConfig& config) {
  const double context = double(config.rope_scaling.original_max_position_embeddings);
  return double(config.head_dim) * std::log(context / (turns * kTau)) / (2.0 * std::log(config.rope_theta));
}

/// Pairs below the ramp keep their frequency (extrapolation), those above are divided by `factor`
/// (interpolation).
float yarn(int64_t pair, const ModelConfig& config) {
  const RopeScaling& s = config.rope_scaling;
  double low = yarn_pair(s.beta_fast, config), high = yarn_pair(s.beta_slow, config);
  if (s.truncate) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0);
  high = std::min(high, double(config.head_dim - 1));
  if (low == high) high += 0.001;
  const float ramp = std::clamp((float(pair) - float(low)) / float(high - low), 0.0f, 1.0f),
              kept = 1.0f - ramp;
  const float slowed = 1.0f / (float(s.factor) * period(pair, config)),
              frequency = 1.0f / period(pair, config);
  return slowed * (1.0f - kept) + frequency * kept;
}

float inverse_frequency(int64_t pair, const ModelConfig& config) {
  const float frequency = 1.0f / period(pair, config);
  switch (config.rope_scaling.kind) {
    case RopeScaling::Kind::kNone:
      break;
    case RopeScaling::Kind::kLinear:
      return frequency / float(config.rope_scaling.factor);
    case RopeScaling::Kind::kLlama3:
      return llama3(frequency, config.rope_scaling);
    case RopeScaling::Kind::kYarn:
      return yarn(pair, config);
  }
  return frequency;
}

}  // namespace

Rope::Rope(const ModelConfig& config) : inverse_frequencies_(size_t(config.head_dim / 2)) {
  for (int64_t pair = 0; pair < config.head_dim / 2; ++pair)
    inverse_frequencies_[size_t(pair)] = inverse_frequency(pair, config);
  if (config.rope_scaling.kind == RopeScaling::Kind::kYarn)
    attention_factor_ = float(config.rope_scaling.attention_factor);
}

void Rope::angles(Mat<float> cos, Mat<float> sin, std::span<const RowRun> runs) const {
  for (const RowRun& run : runs) {
    for (int64_t i = 0; i < run.count; ++i) {
      for (int64_t pair = 0; pair < cos.cols; ++pair) {
        // The product is rounded to float before the sine, as in the PyTorch implementation.
        const float angle = float(run.position + i) * inverse_frequencies_[size_t(pair)];
        cos.row(run.row + i)[pair] = std::cos(angle) * attention_factor_;
        sin.row(run.row + i)[pair] = std::sin(angle) * attention_factor_;
      }
    }
  }
}

}  // namespace stamp
