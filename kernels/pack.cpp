#include "kernels/pack.h"

#include <algorithm>
#include <string>

#include "kernels/error.h"

namespace stamp {
namespace {

constexpr int64_t kStepBytes = 64;  // of a panel's step, which has so many input channels:
int64_t step_of(const WeightView& w) { return w.dtype == DType::kQ8 ? 4 : 8; }

/// Byte of input channel `col` of a row in its panel, and whether it is the high nibble.
struct Place {
  int64_t byte;
  bool high;
};
Place place_of(const WeightView& w, int64_t row, int64_t col) {
  const int64_t panel = row / kPanel * w.panel_bytes(), channel = row % kPanel;
  return {panel + col / step_of(w) * kStepBytes + channel * 4 + col % 4, col % step_of(w) >= 4};
}

/// w of quant_format.h.
int integer_at(const WeightView& w, int64_t row, int64_t col) {
  const auto [byte, high] = place_of(w, row, col);
  const uint8_t x = static_cast<const uint8_t*>(w.data)[byte];
  if (w.dtype == DType::kQ8) return int8_t(x);
  const int64_t g = col / w.group;
  return w.group_scale[w.group_scale_at(row, g)] * (high ? x >> 4 : x & 15) - w.zero[w.zero_at(row, g)];
}

void sum_row(PackedWeight& weight, int64_t row) {
  int32_t sum = 0;
  for (int64_t c = 0; c < weight.view.cols; ++c) sum += integer_at(weight.view, row, c);
  weight.sum[row] = sum;
}

}  // namespace

PackedWeight make_packed(DType dtype, int64_t rows, int64_t cols, int64_t group) {
  if (cols > kMaxQuantisedCols)
    throw InputError("a matrix has " + std::to_string(cols) +
                     " input channels, to be quantised it may have " + std::to_string(kMaxQuantisedCols) +
                     " at most; use --recipe f32");
  PackedWeight p;
  p.view = {.dtype = dtype, .rows = rows, .cols = cols, .group = dtype == DType::kQ4 ? group : 0};
  p.data = Buffer<uint8_t>(p.view.data_bytes());
  p.scale = Buffer<float>(p.view.row_parameters());
  p.sum = Buffer<int32_t>(p.view.row_parameters());
  p.group_scale = Buffer<uint8_t>(p.view.group_parameters());
  p.zero = Buffer<uint8_t>(p.view.zero_parameters());
  p.view.data = p.data.data();
  p.view.scale = p.scale.data();
  p.view.sum = p.sum.data();
  p.view.group_scale = p.group_scale.data();
  p.view.zero = p.zero.data();
  return p;
}

void pack_row(PackedWeight& weight, int64_t row, std::span<const int8_t> codes, float scale,
              std::span<const uint8_t> group_scale, std::span<const uint8_t> zero) {
  const WeightView& w = weight.view;
  weight.scale[row] = scale;
  for (int64_t c = 0; c < w.cols; ++c) {
    const auto [byte, high] = place_of(w, row, c);
    const auto code = uint8_t(codes[size_t(c)]);
    if (w.dtype == DType::kQ4) weight.data[byte] |= uint8_t(high ? code << 4 : code);
    else weight.data[byte] = code;
  }
  for (int64_t g = 0; g < w.groups() && g * w.group < w.cols; ++g) {
    weight.group_scale[w.group_scale_at(row, g)] = group_scale[size_t(g)];
    weight.zero[w.zero_at(row, g)] = zero[size_t(g)];
  }
  sum_row(weight, row);
}

void unpack_row(const WeightView& w, int64_t row, std::span<float> values) {
  for (int64_t c = 0; c < w.cols; ++c) values[size_t(c)] = w.scale[row] * float(integer_at(w, row, c));
}

int64_t slice_unit(const WeightView& w) { return w.dtype == DType::kQ4 ? w.group : step_of(w); }

PackedWeight slice_weight(const WeightView& w, int64_t row, int64_t rows, int64_t col, int64_t cols) {
  const auto* const data = static_cast<const uint8_t*>(w.data);
  if (!is_quantised(w.dtype)) {
    PackedWeight p;
    p.view = {.dtype = w.dtype, .rows = rows, .cols = cols};
    p.data = Buffer<uint8_t>(p.view.data_bytes());
    p.view.data = p.data.data();
    const int64_t size = dtype_size(w.dtype);
    for (int64_t r = 0; r < rows; ++r)
      std::copy_n(data + ((row + r) * w.cols + col) * size, cols * size, p.data.data() + r * cols * size);
    return p;
  }
  PackedWeight p = make_packed(w.dtype, rows, cols, w.group);
  const int64_t begin = place_of(w, 0, col).byte, bytes = divide_up(cols, step_of(w)) * kStepBytes;
  for (int64_t panel = 0; panel < p.view.panels(); ++panel)
    std::copy_n(data + (row / kPanel + panel) * w.panel_bytes() + begin, bytes,
                p.data.data() + panel * p.view.panel_bytes());
  std::copy_n(w.scale + row, rows, p.scale.data());
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t g = 0; g < p.view.groups() && g * w.group < cols; ++g) {
      const int64_t from = col / w.group + g;
      p.group_scale[p.view.group_scale_at(r, g)] = w.group_scale[w.group_scale_at(row + r, from)];
      p.zero[p.view.zero_at(r, g)] = w.zero[w.zero_at(row + r, from)];
    }
    sum_row(p, r);
  }
  return p;
}

}  // namespace stamp
