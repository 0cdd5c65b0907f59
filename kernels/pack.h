#pragma once
#include <cstdint>
#include <span>

#include "kernels/buffer.h"
#include "kernels/views.h"

namespace stamp {

/// A quantised weight that owns its panels.
struct PackedWeight {
  Buffer<uint8_t> data, group_scale, zero;
  Buffer<float> scale;
  Buffer<int32_t> sum;
  WeightView view;
};

/// Empty panels of a [rows, cols] weight: every code and every scale zero. `group` is for kQ4 alone.
/// Throws InputError if cols > kMaxQuantisedCols.
PackedWeight make_packed(DType dtype, int64_t rows, int64_t cols, int64_t group);

/// Writes row `row`: its codes [cols] (kQ8: -127..127; kQ4: 0..15), its scale, kQ4's integer scales and zeros
/// [groups] (those of groups that are all padding are not looked at), and the sum of its integers. Rows are
/// independent: threads may write different ones.
void pack_row(PackedWeight& weight, int64_t row, std::span<const int8_t> codes, float scale,
              std::span<const uint8_t> group_scale = {}, std::span<const uint8_t> zero = {});

/// The float values of a row: what every operation computes with.
void unpack_row(const WeightView& weight, int64_t row, std::span<float> values);

/// Rows [row, row + rows) and columns [col, col + cols) of a weight of any type, copied: codes, scales and
/// zeros stay as they are. Of quantised types `row` is a multiple of kPanel and `col` one of slice_unit(); so
/// are `rows` and `cols` unless they reach the end.
PackedWeight slice_weight(const WeightView& w, int64_t row, int64_t rows, int64_t col, int64_t cols);
/// Input channels of a quantised weight that stay together: a group's, or a step of a panel.
int64_t slice_unit(const WeightView& w);

}  // namespace stamp
