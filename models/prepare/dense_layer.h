#pragma once
#include <vector>

#include "models/config.h"
#include "models/weights.h"

namespace stamp {

/// A matrix [rows, cols] in double while it is being prepared.
struct DenseMatrix {
  int64_t rows = 0, cols = 0;
  std::vector<double> values;

  static DenseMatrix from(const WeightView& weight);
  double* row(int64_t r) { return values.data() + r * cols; }
  /// Columns *= gain: what a norm's gain does to the linear behind it.
  void scale_columns(std::span<const float> gain);
  /// Every row, in pieces of rotation.dim(): W M^T. For an input that is rotated.
  void rotate_input(const Rotation& rotation);
  /// Every column, in pieces of rotation.dim(): M W. For an output that is rotated.
  void rotate_output(const Rotation& rotation);
};

/// One layer after folding and rotating.
struct DenseLayer {
  DenseMatrix q, k, v, o, gate, up, down;
  std::vector<float> input_norm, post_attention_norm;  // ones after folding
  std::vector<float> v_bias, o_bias, down_bias;        // rotated; the other biases stay as they are

  /// Folding happens only where a rotation needs it: `weights` says which there are.
  static DenseLayer from(const LayerWeights& source, const ModelWeights& weights);
};

}  // namespace stamp
