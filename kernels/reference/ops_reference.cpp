#include "kernels/reference/ops_reference.h"

#include <algorithm>
#include <cmath>

#include "kernels/half.h"

namespace stamp {
namespace {

float weight_at(WeightView w, int64_t row, int64_t col) {
  const int64_t i = row * w.cols + col;
  switch (w.dtype) {
    case DType::kF16:
      return f16_to_f32(static_cast<const uint16_t*>(w.data)[i]);
    case DType::kBF16:
      return bf16_to_f32(static_cast<const uint16_t*>(w.data)[i]);
    case DType::kF32:
      break;
  }
  return static_cast<const float*>(w.data)[i];
}

class ReferenceOps final : public Ops {
 public:
  std::string_view name() const override { return "reference"; }
  int threads() const override { return 1; }

  void embed(Mat<float> out, std::span<const int32_t> ids, WeightView table) override {
    for (int64_t r = 0; r < out.rows; ++r)
      for (int64_t c = 0; c < out.cols; ++c) out.row(r)[c] = weight_at(table, ids[size_t(r)], c);
  }

  void rms_norm(Mat<float> out, Mat<const float> in, std::span<const float> gain, float eps) override {
    for (int64_t r = 0; r < in.rows; ++r) {
      double squares = 0;
      for (float x : in.row_span(r)) squares += double(x) * double(x);
      const double inverse = 1.0 / std::sqrt(squares / double(in.cols) + double(eps));
      for (int64_t c = 0; c < in.cols; ++c)
        out.row(r)[c] = float(double(in.row(r)[c]) * inverse * double(gain[size_t(c)]));
    }
  }

  void linear(Mat<float> out, Mat<const float> in, WeightView weight, std::span<const float> bias) override {
    for (int64_t r = 0; r < in.rows; ++r) {
      for (int64_t n = 0; n < weight.rows; ++n) {
        double sum = bias.empty() ? 0.0 : double(bias[size_t(n)]);
        for (int64_t k = 0; k < weight.cols; ++k)
          sum += double(in.row(r)[k]) * double(weight_at(weight, n, k));
        out.row(r)[n] = float(sum);
      }
    }
  }

  void rope(Mat<float> x, Mat<const float> cos, Mat<const float> sin) override {
    const int64_t half = cos.cols, head_dim = 2 * half;
    for (int64_t r = 0; r < x.rows; ++r) {
      for (int64_t head = 0; head < x.cols / head_dim; ++head) {
        float* h = x.row(r) + head * head_dim;
        for (int64_t i = 0; i < half; ++i) {
          const double a = h[i], b = h[half + i], c = cos.row(r)[i], s = sin.row(r)[i];
          h[i] = float(a * c - b * s);
          h[half + i] = float(a * s + b * c);
        }
      }
    }
  }

  void silu_mul(Mat<float> gate, Mat<const float> up) override {
    for (int64_t r = 0; r < gate.rows; ++r) {
      for (int64_t c = 0; c < gate.cols; ++c) {
        const double g = gate.row(r)[c];
        gate.row(r)[c] = float(g / (1.0 + std::exp(-g)) * double(up.row(r)[c]));
      }
    }
  }

  void add(Mat<float> x, Mat<const float> y) override {
    for (int64_t r = 0; r < x.rows; ++r)
      for (int64_t c = 0; c < x.cols; ++c) x.row(r)[c] += y.row(r)[c];
  }

  void append_kv(KvPages kv, Mat<const float> k, Mat<const float> v, std::span<const RowRun> runs) override {
    for (const RowRun& run : runs) {
      for (int64_t i = 0; i < run.count; ++i) {
        const int64_t position = run.position + i, slot = position % kBlock;
        const int32_t page = run.pages[size_t(position / kBlock)];
        for (int64_t head = 0; head < kv.kv_heads; ++head) {
          for (int64_t c = 0; c < kv.head_dim; ++c) {
            kv.k(page, head)[c * kBlock + slot] = k.row(run.row + i)[head * kv.head_dim + c];
            kv.v(page, head)[slot * kv.head_dim + c] = v.row(run.row + i)[head * kv.head_dim + c];
          }
        }
      }
    }
  }

  void attention(Mat<float> out, Mat<const float> q, KvPages kv, std::span<const RowRun> runs,
                 float scale) override {
    const int64_t d = kv.head_dim, heads = q.cols / d;
    for (const RowRun& run : runs)
      for (int64_t i = 0; i < run.count; ++i)
        for (int64_t head = 0; head < heads; ++head)
          attend(out.row(run.row + i) + head * d, q.row(run.row + i) + head * d, kv,
                 head * kv.kv_heads / heads, run.pages, run.position + i + 1, scale);
  }

  void token_logprobs(std::span<float> out, Mat<const float> logits,
                      std::span<const int32_t> targets) override {
    for (int64_t r = 0; r < logits.rows; ++r) {
      const auto row = logits.row_span(r);
      const double top = *std::max_element(row.begin(), row.end());
      double sum = 0;
      for (float x : row) sum += std::exp(double(x) - top);
      out[size_t(r)] = float(double(row[size_t(targets[size_t(r)])]) - top - std::log(sum));
    }
  }

 private:
  /// One query over `keys` positions of one KV head.
  void attend(float* out, const float* q, const KvPages& kv, int64_t head, std::span<const int32_t> pages,
              int64_t keys, float scale) {
    const int64_t d = kv.head_dim;
    std::vector<double> p(static_cast<size_t>(keys));
    double top = -INFINITY, sum = 0;
    for (int64_t j = 0; j < keys; ++j) {
      const float* k = kv.k(pages[size_t(j / kBlock)], head) + j % kBlock;
      double score = 0;
      for (int64_t c = 0; c < d; ++c) score += double(q[c]) * double(k[c * kBlock]);
      p[size_t(j)] = score * double(scale);
      top = std::max(top, p[size_t(j)]);
    }
    for (double& x : p) sum += x = std::exp(x - top);
    for (int64_t c = 0; c < d; ++c) {
      double value = 0;
      for (int64_t j = 0; j < keys; ++j)
        value += p[size_t(j)] * double(kv.v(pages[size_t(j / kBlock)], head)[j % kBlock * d + c]);
      out[c] = float(value / sum);
    }
  }
};

}  // namespace

std::unique_ptr<Ops> make_reference_ops() { return std::make_unique<ReferenceOps>(); }

}  // namespace stamp
