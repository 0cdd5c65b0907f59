#pragma once
#include <span>

#include "kernels/pack.h"
#include "kernels/thread_pool.h"
#include "models/prepare/dense_layer.h"

namespace stamp {

/// The codes of one group of weights: value = scale * (code - zero / 16).
struct GroupGrid {
  uint16_t scale = 0;  // binary16
  uint8_t zero = 0;    // sixteenths of a step

  /// The grid of sixteen steps with the least squared error over `weights` (each counted `importance` times;
  /// empty: once), among shrunk versions of their range: clipping a few extremes lets the others have finer
  /// steps.
  static GroupGrid fit(std::span<const double> weights, std::span<const double> importance, bool symmetric);
  int code(double weight) const;
  double value(int code) const;
};

/// Round to nearest, 4 bits in groups or 8 bits a row. Rows are independent, so threads change nothing.
PackedWeight quantize_nearest(DenseMatrix& weight, int bits, int64_t group, bool symmetric, ThreadPool& pool);

/// The scale of an 8-bit row and its codes.
uint16_t row_scale(std::span<const double> row);
int row_code(double weight, float scale);

}  // namespace stamp
