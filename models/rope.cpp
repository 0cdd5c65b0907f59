#include "models/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace stamp {
namespace {

constexpr double kTau = 2.0 * std::numbers::pi;

/// Llama 3.1: long wavelengths are slowed by `factor`, short ones kept, those between blended linearly in the
/// number of turns they make over the original context.
double llama3(double frequency, const RopeScaling& s) {
  const double turns = double(s.original_max_position_embeddings) * frequency / kTau;
  if (turns < s.low_freq_factor) return frequency / s.factor;
  if (turns > s.high_freq_factor) return frequency;
  const double blend = (turns - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor);
  return (1.0 - blend) * frequency / s.factor + blend * frequency;
}

/// YaRN (section 3.2): the pair index at which a frequency makes `turns` turns over the original context.
double yarn_pair(double turns, const ModelConfig& config) {
  const double context = double(config.rope_scaling.original_max_position_embeddings);
  return double(config.head_dim) * std::log(context / (turns * kTau)) /
         (2.0 * std::log(double(config.rope_theta)));
}

/// Pairs below the ramp keep their frequency (extrapolation), those above are divided by `factor`
/// (interpolation).
double yarn(double frequency, int64_t pair, const ModelConfig& config) {
  const RopeScaling& s = config.rope_scaling;
  double low = yarn_pair(s.beta_fast, config), high = yarn_pair(s.beta_slow, config);
  if (s.truncate) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0);
  high = std::min(high, double(config.head_dim - 1));
  if (low == high) high += 0.001;
  const double ramp = std::clamp((double(pair) - low) / (high - low), 0.0, 1.0);
  return frequency / s.factor * ramp + frequency * (1.0 - ramp);
}

}  // namespace

Rope::Rope(const ModelConfig& config) : inverse_frequencies_(size_t(config.head_dim / 2)) {
  const RopeScaling& s = config.rope_scaling;
  for (int64_t pair = 0; pair < config.head_dim / 2; ++pair) {
    double frequency = std::pow(double(config.rope_theta), -2.0 * double(pair) / double(config.head_dim));
    switch (s.kind) {
      case RopeScaling::Kind::kNone:
        break;
      case RopeScaling::Kind::kLinear:
        frequency /= s.factor;
        break;
      case RopeScaling::Kind::kLlama3:
        frequency = llama3(frequency, s);
        break;
      case RopeScaling::Kind::kYarn:
        frequency = yarn(frequency, pair, config);
        break;
    }
    inverse_frequencies_[size_t(pair)] = float(frequency);
  }
  if (s.kind == RopeScaling::Kind::kYarn) attention_factor_ = float(s.attention_factor);
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
