#include "kernels/pack.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "kernels/half.h"

namespace stamp {
namespace {

/// Byte of input channel `col` of a row in its panel, and whether it is the high nibble.
struct Place {
  int64_t byte;
  bool high;
};
constexpr int64_t kStepBytes = 64;  // of a panel's step, which has so many input channels:
int64_t step_of(const WeightView& w) { return w.dtype == DType::kQ8 ? 4 : 8; }
Place place_of(const WeightView& w, int64_t row, int64_t col) {
  const int64_t panel = row / kPanel * w.panel_bytes(), channel = row % kPanel;
  return {panel + col / step_of(w) * kStepBytes + channel * 4 + col % 4, col % step_of(w) >= 4};
}

int64_t parameter_of(const WeightView& w, int64_t row, int64_t group) {
  return (row / kPanel * w.groups() + group) * kPanel + row % kPanel;
}

}  // namespace

PackedWeight make_packed(DType dtype, int64_t rows, int64_t cols, int64_t group) {
  PackedWeight p;
  p.view = {.dtype = dtype, .rows = rows, .cols = cols, .group = dtype == DType::kQ4 ? group : 0};
  const int64_t parameters = p.view.panels() * p.view.groups() * kPanel;
  p.data = Buffer<uint8_t>(p.view.panels() * p.view.panel_bytes());
  p.scale = Buffer<uint16_t>(parameters);
  if (dtype == DType::kQ4) p.zero = Buffer<uint8_t>(parameters);
  p.sum = Buffer<float>(p.view.panels() * kPanel);
  p.view.data = p.data.data();
  p.view.scale = p.scale.data();
  p.view.zero = p.zero.data();
  p.view.sum = p.sum.data();
  return p;
}

void pack_row(PackedWeight& weight, int64_t row, std::span<const int8_t> codes,
              std::span<const uint16_t> scale, std::span<const uint8_t> zero) {
  const WeightView& w = weight.view;
  double sum = 0;
  for (int64_t g = 0; g < w.groups(); ++g) {
    weight.scale[parameter_of(w, row, g)] = scale[size_t(g)];
    if (w.dtype == DType::kQ4) weight.zero[parameter_of(w, row, g)] = zero[size_t(g)];
  }
  for (int64_t c = 0; c < w.cols; ++c) {
    const int64_t g = w.dtype == DType::kQ4 ? c / w.group : 0;
    const auto [byte, high] = place_of(w, row, c);
    const auto code = uint8_t(codes[size_t(c)]);
    if (w.dtype == DType::kQ4) {
      weight.data[byte] |= uint8_t(high ? code << 4 : code);
      sum += double(f16_to_f32(scale[size_t(g)])) * (code - zero[size_t(g)] / 16.0);
    } else {
      weight.data[byte] = code;
      sum += double(f16_to_f32(scale[size_t(g)])) * codes[size_t(c)];
    }
  }
  weight.sum[row] = float(sum);
}

void unpack_row(const WeightView& w, int64_t row, std::span<float> values) {
  const auto* data = static_cast<const uint8_t*>(w.data);
  for (int64_t c = 0; c < w.cols; ++c) {
    const int64_t at = parameter_of(w, row, w.dtype == DType::kQ4 ? c / w.group : 0);
    const auto [byte, high] = place_of(w, row, c);
    const float scale = f16_to_f32(w.scale[at]);
    if (w.dtype == DType::kQ4) {
      const float q = float(high ? data[byte] >> 4 : data[byte] & 15);
      values[size_t(c)] = scale * (q - float(w.zero[at]) * (1.0f / 16));
    } else {
      values[size_t(c)] = scale * float(int8_t(data[byte]));
    }
  }
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
  const bool four = w.dtype == DType::kQ4;
  const int64_t begin = place_of(w, 0, col).byte, bytes = divide_up(cols, step_of(w)) * kStepBytes;
  const int64_t first_group = four ? col / w.group : 0, groups = four ? divide_up(cols, w.group) : 1;
  for (int64_t panel = 0; panel < p.view.panels(); ++panel) {
    const int64_t from = row / kPanel + panel;
    std::copy_n(data + from * w.panel_bytes() + begin, bytes, p.data.data() + panel * p.view.panel_bytes());
    const int64_t source = (from * w.groups() + first_group) * kPanel;
    const int64_t target = panel * p.view.groups() * kPanel;
    std::copy_n(w.scale + source, groups * kPanel, p.scale.data() + target);
    if (four) std::copy_n(w.zero + source, groups * kPanel, p.zero.data() + target);
  }
  // As pack_row sums: a value has at most 20 bits, so that floats hold it.
  std::vector<float> values(static_cast<size_t>(cols));
  for (int64_t r = 0; r < rows; ++r) {
    unpack_row(p.view, r, values);
    p.sum[r] = float(std::accumulate(values.begin(), values.end(), 0.0));
  }
  return p;
}

}  // namespace stamp
