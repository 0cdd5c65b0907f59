#include "models/prepare/quantize.h"

#include <algorithm>
#include <cmath>

namespace stamp {
namespace {

constexpr int kShrinks = 24;  // clipping candidates
constexpr double kShrinkStep = 0.02;
constexpr double kFinest = 0.85, kCoarsest = 1.1;  // of the step that a group wants
constexpr int kZeros = 5;                          // candidates

/// To nearest, |x| < 2^51; unlike std::nearbyint no call where SSE4.1 may be absent.
double nearest(double x) {
  constexpr double kMagic = 0x1.8p52;
  return (x + kMagic) - kMagic;
}

using Weights = std::span<const double>;

/// Sixteen steps whose size and zero are any numbers: step * (code - zero).
struct FreeGrid {
  double step = 0, zero = 0;

  /// The least scale of a row whose integers reach these steps and their ends.
  double least_scale() const {
    return std::max({step / kTopGroupScale, (kTopCode - zero) * step / 127, zero * step / kTopZero});
  }
  double error(Weights weights) const {
    const double inverse = step > 0 ? 1 / step : 0;
    constexpr size_t kSums = 4;  // lanes
    double sums[kSums] = {};
    const auto add = [&](size_t i, double& sum) {
      const double code = std::min(std::max(nearest(weights[i] * inverse + zero), 0.0), double(kTopCode));
      const double difference = step * (code - zero) - weights[i];
      sum += difference * difference;
    };
    size_t i = 0;
    for (; i + kSums <= weights.size(); i += kSums)
      for (size_t j = 0; j < kSums; ++j) add(i + j, sums[j]);
    for (; i < weights.size(); ++i) add(i, sums[0]);
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
  }
};

struct Range {
  explicit Range(Weights weights)  // zero stays inside
      : low(std::min(0.0, *std::ranges::min_element(weights))),
        high(std::max(0.0, *std::ranges::max_element(weights))) {}
  double low, high;
};

/// The steps that suit a group best by itself.
FreeGrid free_grid_of(Weights weights, bool symmetric) {
  const Range range(weights);
  FreeGrid best;
  double least = 0;
  for (int i = 0; i < kShrinks; ++i) {
    const double keep = 1.0 - kShrinkStep * i, low = range.low * keep, high = range.high * keep;
    FreeGrid grid;
    grid.step = symmetric ? std::max(high / 7, -low / 8) : (high - low) / kTopCode;
    grid.zero = symmetric ? 8 : grid.step > 0 ? -low / grid.step : 0;
    const double error = grid.error(weights);
    if (i == 0 || error < least) best = grid, least = error;
  }
  return best;
}

GroupGrid grid_of(double scale, double step, Weights weights, bool symmetric) {
  const Range range(weights);
  const auto integer = [](double x) { return int(std::clamp(x, 1.0, double(kTopGroupScale))); };
  const int first = integer(std::floor(step * kFinest / scale)),
            last = integer(std::ceil(step * kCoarsest / scale));
  GroupGrid best;
  double least = 0;
  for (int group_scale = first; group_scale <= last; ++group_scale) {
    // From the one that reaches the least weight to the one that reaches the greatest.
    const double first_zero = -range.low / scale, last_zero = kTopCode * group_scale - range.high / scale;
    for (int i = 0; i < (symmetric ? 1 : kZeros); ++i) {
      const double wanted =
          symmetric ? 8.0 * group_scale : first_zero + (last_zero - first_zero) * i / (kZeros - 1);
      const double zero = std::clamp(nearest(wanted), double(least_zero(group_scale)), double(kTopZero));
      const FreeGrid grid{scale * group_scale, zero / group_scale};
      const double error = grid.error(weights);
      if (best.group_scale == 0 || error < least) best = {scale, group_scale, int(zero)}, least = error;
    }
  }
  return best;
}

}  // namespace

int GroupGrid::code(double weight) const {
  if (scale == 0) return 0;  // every code has the value 0
  return int(std::clamp(nearest((weight / scale + zero) / group_scale), 0.0, double(kTopCode)));
}

double GroupGrid::value(int code) const { return scale * (group_scale * code - zero); }

RowGrid RowGrid::fit(Weights weights, int64_t group, bool symmetric) {
  const auto groups = size_t(divide_up(int64_t(weights.size()), group));
  const auto part = [&](size_t g) {
    const size_t begin = g * size_t(group);
    return weights.subspan(begin, std::min(size_t(group), weights.size() - begin));
  };
  std::vector<double> steps(groups);
  double scale = 0;
  for (size_t g = 0; g < groups; ++g) {
    const FreeGrid alone = free_grid_of(part(g), symmetric);
    steps[g] = alone.step, scale = std::max(scale, alone.least_scale());
  }
  RowGrid row{.scale = float(scale),
              .group = group,
              .group_scale = std::vector<uint8_t>(groups, 1),
              .zero = std::vector<uint8_t>(groups, 0)};
  for (size_t g = 0; g < groups && row.scale > 0; ++g) {
    const GroupGrid grid = grid_of(double(row.scale), steps[g], part(g), symmetric);
    row.group_scale[g] = uint8_t(grid.group_scale), row.zero[g] = uint8_t(grid.zero);
  }
  return row;
}

float row_scale(std::span<const double> row) {
  double peak = 0;
  for (double w : row) peak = std::max(peak, std::fabs(w));
  return float(peak / 127);
}

int row_code(double weight, float scale) {
  return scale > 0 ? int(std::clamp(nearest(weight / double(scale)), -127.0, 127.0)) : 0;
}

PackedWeight quantize_nearest(DenseMatrix& weight, int bits, int64_t group, bool symmetric,
                              ThreadPool& pool) {
  PackedWeight packed = make_packed(bits == 4 ? DType::kQ4 : DType::kQ8, weight.rows, weight.cols, group);
  pool.parallel_for(packed.view.panels(), [&](int64_t panel, int) {
    std::vector<int8_t> codes(static_cast<size_t>(weight.cols));
    for (int64_t r = panel * kPanel; r < std::min(weight.rows, (panel + 1) * kPanel); ++r) {
      const Weights row(weight.row(r), size_t(weight.cols));
      if (bits == 8) {
        const float scale = row_scale(row);
        for (size_t c = 0; c < row.size(); ++c) codes[c] = int8_t(row_code(row[c], scale));
        pack_row(packed, r, codes, scale);
        continue;
      }
      const RowGrid grid = RowGrid::fit(row, group, symmetric);
      for (int64_t c = 0; c < weight.cols; ++c)
        codes[size_t(c)] = int8_t(grid.of_group(c / group).code(row[size_t(c)]));
      pack_row(packed, r, codes, grid.scale, grid.group_scale, grid.zero);
    }
  });
  return packed;
}

}  // namespace stamp
