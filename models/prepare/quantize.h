#pragma once
#include <span>
#include <vector>

#include "kernels/pack.h"
#include "kernels/thread_pool.h"
#include "models/prepare/dense_layer.h"

namespace stamp {

/// The codes of one group of a row's weights: value = scale * (group_scale * code - zero),
/// kernels/quant_format.h.
struct GroupGrid {
  double scale = 0;  // the row's
  int group_scale = 0, zero = 0;

  int code(double weight) const;
  double value(int code) const;
};

/// The grids of a row, which is a sum over its groups of `group` weights.
struct RowGrid {
  float scale = 0;
  int64_t group = 0;
  std::vector<uint8_t> group_scale{}, zero{};  // [groups]

  /// The grids of sixteen steps with little squared error over `weights`. Ranges are shrunk where clipping a
  /// few extremes lets the others have finer steps. The row's scale is the least with which its integers
  /// reach the steps that every group wants for itself; then each group takes the best of the integers near
  /// its own step, with zeros from one end of its range to the other. Symmetric: code 8 is the weight 0.
  static RowGrid fit(std::span<const double> weights, int64_t group, bool symmetric);
  GroupGrid of_group(int64_t g) const { return {double(scale), group_scale[size_t(g)], zero[size_t(g)]}; }
};

/// Round to nearest, 4 bits in groups or 8 bits a row. Rows are independent, so threads change nothing.
PackedWeight quantize_nearest(DenseMatrix& weight, int bits, int64_t group, bool symmetric, ThreadPool& pool);

/// The scale of an 8-bit row and its codes.
float row_scale(std::span<const double> row);
int row_code(double weight, float scale);

}  // namespace stamp
