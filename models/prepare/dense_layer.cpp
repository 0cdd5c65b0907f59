#include "models/prepare/dense_layer.h"

#include "kernels/half.h"

namespace stamp {
namespace {

std::vector<float> rotated(std::span<const float> bias, const Rotation& rotation) {
  std::vector<double> x(bias.begin(), bias.end());
  if (!rotation.empty()) rotation.apply(x);
  return {x.begin(), x.end()};
}

}  // namespace

DenseMatrix DenseMatrix::from(const WeightView& weight) {
  DenseMatrix m{weight.rows, weight.cols, std::vector<double>(size_t(weight.rows * weight.cols))};
  for (size_t i = 0; i < m.values.size(); ++i) {
    switch (weight.dtype) {
      case DType::kF32:
        m.values[i] = static_cast<const float*>(weight.data)[i];
        break;
      case DType::kF16:
        m.values[i] = f16_to_f32(static_cast<const uint16_t*>(weight.data)[i]);
        break;
      default:
        m.values[i] = bf16_to_f32(static_cast<const uint16_t*>(weight.data)[i]);
        break;
    }
  }
  return m;
}

void DenseMatrix::scale_columns(std::span<const float> gain) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c) row(r)[c] *= double(gain[size_t(c)]);
}

void DenseMatrix::rotate_input(const Rotation& rotation) {
  if (!rotation.empty()) rotation.apply(values);
}

void DenseMatrix::rotate_output(const Rotation& rotation) {
  if (rotation.empty()) return;
  std::vector<double> column(static_cast<size_t>(rows));
  for (int64_t c = 0; c < cols; ++c) {
    for (int64_t r = 0; r < rows; ++r) column[size_t(r)] = row(r)[c];
    rotation.apply(column);
    for (int64_t r = 0; r < rows; ++r) row(r)[c] = column[size_t(r)];
  }
}

DenseLayer DenseLayer::from(const LayerWeights& source, const ModelWeights& weights) {
  DenseLayer d{
      .q = DenseMatrix::from(source.q),
      .k = DenseMatrix::from(source.k),
      .v = DenseMatrix::from(source.v),
      .o = DenseMatrix::from(source.o),
      .gate = DenseMatrix::from(source.gate),
      .up = DenseMatrix::from(source.up),
      .down = DenseMatrix::from(source.down),
      .input_norm = {source.input_norm.begin(), source.input_norm.end()},
      .post_attention_norm = {source.post_attention_norm.begin(), source.post_attention_norm.end()},
      .v_bias = rotated(source.v_bias, source.v_bias.empty() ? Rotation() : weights.head_rotation),
      .o_bias = rotated(source.o_bias, source.o_bias.empty() ? Rotation() : weights.residual_rotation),
      .down_bias =
          rotated(source.down_bias, source.down_bias.empty() ? Rotation() : weights.residual_rotation)};
  if (!weights.residual_rotation.empty()) {
    for (DenseMatrix* m : {&d.q, &d.k, &d.v})
      m->scale_columns(source.input_norm), m->rotate_input(weights.residual_rotation);
    for (DenseMatrix* m : {&d.gate, &d.up})
      m->scale_columns(source.post_attention_norm), m->rotate_input(weights.residual_rotation);
    for (DenseMatrix* m : {&d.o, &d.down}) m->rotate_output(weights.residual_rotation);
    d.input_norm.assign(d.input_norm.size(), 1.0f);
    d.post_attention_norm.assign(d.post_attention_norm.size(), 1.0f);
  }
  d.v.rotate_output(weights.head_rotation);
  d.o.rotate_input(weights.head_rotation);
  d.down.rotate_input(weights.down_rotation);
  return d;
}

}  // namespace stamp
