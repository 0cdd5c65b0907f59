#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/views.h"
#include "models/config.h"

namespace stamp {

/// Rotary position embedding: the angles of each position, with the context extensions that checkpoints
/// declare in `rope_scaling` (linear; Llama 3's frequency bands; YaRN, arXiv 2309.00071).
class Rope {
 public:
  explicit Rope(const ModelConfig& config);

  /// cos, sin [positions, head_dim / 2] of position * inverse frequency, times the attention factor.
  void angles(Mat<float> cos, Mat<float> sin, std::span<const RowRun> runs) const;

  std::span<const float> inverse_frequencies() const { return inverse_frequencies_; }
  float attention_factor() const { return attention_factor_; }

 private:
  std::vector<float> inverse_frequencies_;  // [head_dim / 2]
  float attention_factor_ = 1.0f;
};

}  // namespace stamp
