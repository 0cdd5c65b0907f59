#include "models/prepare/quantize.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/half.h"

namespace stamp {
namespace {

constexpr int kTop = 15;      // of a 4-bit code
constexpr int kShrinks = 24;  // clipping candidates
constexpr double kShrinkStep = 0.02;

double error_of(const GroupGrid& grid, std::span<const double> weights, std::span<const double> importance) {
  double error = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    const double difference = grid.value(grid.code(weights[i])) - weights[i];
    error += difference * difference * (importance.empty() ? 1.0 : importance[i]);
  }
  return error;
}

GroupGrid grid_of(double low, double high, bool symmetric) {
  GroupGrid grid;
  if (symmetric) {  // the zero point is code 8, whatever the range
    grid.scale = f32_to_f16(float(std::max({high / 7.0, -low / 8.0, 0.0})));
    grid.zero = 8 * 16;
    return grid;
  }
  grid.scale = f32_to_f16(float((high - low) / kTop));
  const double scale = f16_to_f32(grid.scale);
  grid.zero = scale > 0 ? uint8_t(std::clamp(std::nearbyint(-low / scale * 16), 0.0, 255.0)) : 0;
  return grid;
}

}  // namespace

int GroupGrid::code(double weight) const {
  const double step = f16_to_f32(scale);
  if (step == 0) return 0;  // every code has the value 0
  return int(std::clamp(std::nearbyint(weight / step + zero / 16.0), 0.0, double(kTop)));
}

double GroupGrid::value(int code) const { return double(f16_to_f32(scale)) * (code - zero / 16.0); }

GroupGrid GroupGrid::fit(std::span<const double> weights, std::span<const double> importance,
                         bool symmetric) {
  const auto [min, max] = std::minmax_element(weights.begin(), weights.end());
  // The zero point is a byte, so zero stays inside the range.
  const double low = std::min(0.0, *min), high = std::max(0.0, *max);
  GroupGrid best = grid_of(low, high, symmetric);
  double least = error_of(best, weights, importance);
  for (int i = 1; i < kShrinks; ++i) {
    const double keep = 1.0 - kShrinkStep * i;
    const GroupGrid grid = grid_of(low * keep, high * keep, symmetric);
    const double error = error_of(grid, weights, importance);
    if (error < least) best = grid, least = error;
  }
  return best;
}

uint16_t row_scale(std::span<const double> row) {
  double peak = 0;
  for (double w : row) peak = std::max(peak, std::fabs(w));
  return f32_to_f16(float(peak / 127));
}

int row_code(double weight, float scale) {
  return scale > 0 ? int(std::clamp(std::nearbyint(weight / double(scale)), -127.0, 127.0)) : 0;
}

PackedWeight quantize_nearest(DenseMatrix& weight, int bits, int64_t group, bool symmetric,
                              ThreadPool& pool) {
  PackedWeight packed = make_packed(bits == 4 ? DType::kQ4 : DType::kQ8, weight.rows, weight.cols, group);
  pool.parallel_for(packed.view.panels(), [&](int64_t panel, int) {
    std::vector<int8_t> codes(static_cast<size_t>(weight.cols));
    std::vector<uint16_t> scale(size_t(packed.view.groups()), 0);
    std::vector<uint8_t> zero(scale.size(), 0);
    for (int64_t r = panel * kPanel; r < std::min(weight.rows, (panel + 1) * kPanel); ++r) {
      const std::span<const double> row(weight.row(r), size_t(weight.cols));
      if (bits == 8) {
        scale[0] = row_scale(row);
        for (size_t c = 0; c < row.size(); ++c) codes[c] = int8_t(row_code(row[c], f16_to_f32(scale[0])));
      } else {
        for (int64_t g = 0; g * group < weight.cols; ++g) {
          const auto part = row.subspan(size_t(g * group), size_t(std::min(group, weight.cols - g * group)));
          const GroupGrid grid = GroupGrid::fit(part, {}, symmetric);
          scale[size_t(g)] = grid.scale, zero[size_t(g)] = grid.zero;
          for (size_t i = 0; i < part.size(); ++i) codes[size_t(g * group) + i] = int8_t(grid.code(part[i]));
        }
      }
      pack_row(packed, r, codes, scale, zero);
    }
  });
  return packed;
}

}  // namespace stamp
