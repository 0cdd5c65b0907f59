#include "kernels/reference/ops_reference.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/half.h"
#include "kernels/reference/seq_matrix.h"

namespace stamp {
namespace {

/// Weight [row, col], whatever its type.
double weight_at(WeightView w, int64_t row, int64_t col) {
  const int64_t i = row * w.cols + col;
  const auto* bytes = static_cast<const uint8_t*>(w.data) + row / kPanel * w.panel_bytes();
  const int64_t channel = row % kPanel;
  switch (w.dtype) {
    case DType::kF32:
      return static_cast<const float*>(w.data)[i];
    case DType::kF16:
      return f16_to_f32(static_cast<const uint16_t*>(w.data)[i]);
    case DType::kBF16:
      return bf16_to_f32(static_cast<const uint16_t*>(w.data)[i]);
    case DType::kQ8: {
      const auto q = int8_t(bytes[col / 4 * 64 + channel * 4 + col % 4]);
      return double(w.scale[row]) * double(q);
    }
    case DType::kQ4:
      break;
  }
  const uint8_t byte = bytes[col / 8 * 64 + channel * 4 + col % 4];
  const int q = col % 8 < 4 ? byte & 15 : byte >> 4;
  const int64_t g = col / w.group;
  const int scaled = w.group_scale[w.group_scale_at(row, g)] * q;
  return double(w.scale[row]) * (scaled - w.zero[w.zero_at(row, g)]);
}

double value_at(const QuantMat& m, int64_t row, int64_t col) {
  return double(m.scale[row]) * m.q[row * m.stride + col] + double(m.offset[row]);
}

/// One row of a coefficient page: value = scale * (q - zero / steps).
struct KvRow {
  KvRow(const std::byte* side, const KvSide& format, int64_t r)
      : bits(format.row_bits(r)),
        d(format.head_dim),
        q(reinterpret_cast<const uint8_t*>(side) + format.row_offset(r)) {
    uint16_t half;
    std::memcpy(&half, side + KvSide::kScales + 2 * r, 2);
    scale = f16_to_f32(half);
    zero = double(uint8_t(side[KvSide::kZeros + r])) / zero_steps(bits);
  }
  double operator[](int64_t c) const { return scale * centred(c); }
  double centred(int64_t c) const {
    const int code = bits > 4 ? q[c] : c < d / 2 ? q[c] & 15 : q[c - d / 2] >> 4;
    return code - zero;
  }
  int bits;
  int64_t d;
  const uint8_t* q;
  double scale, zero;
};

class ReferenceOps final : public Ops {
 public:
  std::string_view name() const override { return "reference"; }
  int threads() const override { return 1; }

  void embed(Mat<float> out, std::span<const int32_t> ids, WeightView table) override {
    for (int64_t r = 0; r < out.rows; ++r)
      for (int64_t c = 0; c < out.cols; ++c) out.row(r)[c] = float(weight_at(table, ids[size_t(r)], c));
  }

  void gather(Mat<float> out, Mat<const float> in, std::span<const int32_t> rows) override {
    for (int64_t r = 0; r < out.rows; ++r) std::copy_n(in.row(rows[size_t(r)]), in.cols, out.row(r));
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

  void linear(std::span<const Product> products, Mat<const float> in) override {
    for (const auto& [out, weight, bias] : products)
      multiply(out, in.rows, weight, bias, [&](int64_t r, int64_t k) { return double(in.row(r)[k]); });
  }

  void linear(std::span<const Product> products, const QuantMat& in) override {
    const SeqMatrix matrix(in.plan.transform, in.plan.levels);
    for (const auto& [out, weight, bias] : products) {
      multiply(out, in.rows, weight, {}, [&](int64_t r, int64_t k) { return value_at(in, r, k); });
      for (const RowTile& tile : in.tiles)
        if (tile.coded) matrix.apply(out.slice(tile.row, kBlock), out.slice(tile.row, kBlock), true);
      for (int64_t r = 0; r < out.rows && !bias.empty(); ++r)
        for (int64_t n = 0; n < out.cols; ++n) out.row(r)[n] += bias[size_t(n)];
    }
  }

  void quantize(QuantMat& out, Mat<const float> in) override {
    const SeqMatrix matrix(out.plan.transform, out.plan.levels);
    for (const RowTile& tile : out.tiles) {
      std::vector<float> rows(size_t(tile.count * in.cols));
      const Mat<float> x{rows.data(), tile.count, in.cols, in.cols};
      if (tile.coded) matrix.apply(x, in.slice(tile.row, kBlock), false);
      else
        for (int64_t r = 0; r < tile.count; ++r) std::copy_n(in.row(tile.row + r), in.cols, x.row(r));
      for (int64_t r = 0; r < tile.count; ++r)
        quantize_row(out, tile.row + r, x.row_span(r), tile.coded ? out.plan.bits(r) : kTokenBits);
    }
  }

  void rotate(Mat<float> x, const RotationView& rotation, bool inverse) override {
    const int64_t block = rotation.block, blocks = x.cols / block;
    const auto sign = [&](int64_t c) {
      return rotation.signs.empty() ? 1.0 : double(rotation.signs[size_t(c)]);
    };
    // Entry [to, from] of the whole matrix; (-1)^popcount is Sylvester's Hadamard matrix.
    const auto entry = [&](int64_t to, int64_t from) {
      const double h = (__builtin_popcountll(uint64_t(to % block & from % block)) % 2 != 0 ? -1 : 1) /
                       std::sqrt(double(block));
      const double mix = rotation.mix.empty()
                             ? double(to / block == from / block)
                             : double(rotation.mix[size_t(to / block * blocks + from / block)]);
      return mix * h * sign(from);
    };
    for (int64_t r = 0; r < x.rows; ++r) {
      const std::vector<float> in(x.row(r), x.row(r) + x.cols);
      for (int64_t to = 0; to < x.cols; ++to) {
        double sum = 0;
        for (int64_t from = 0; from < x.cols; ++from)
          sum += (inverse ? entry(from, to) : entry(to, from)) * double(in[size_t(from)]);
        x.row(r)[to] = float(sum);
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
    if (kv.format.coded) return append_coded(kv, k, v, runs);
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
    for (const RowRun& run : runs) {
      for (int64_t i = 0; i < run.count; ++i) {
        for (int64_t head = 0; head < heads; ++head) {
          float* target = out.row(run.row + i) + head * d;
          const float* query = q.row(run.row + i) + head * d;
          const int64_t kv_head = head * kv.kv_heads / heads, keys = run.position + i + 1;
          if (kv.format.coded) attend_coded(target, query, kv, kv_head, run, keys, scale);
          else attend(target, query, kv, kv_head, run.pages, keys, scale);
        }
      }
    }
  }

  void argmax(std::span<int32_t> out, Mat<const float> logits) override {
    for (int64_t r = 0; r < logits.rows; ++r) {
      const auto row = logits.row_span(r);
      const bool finite = std::ranges::all_of(row, [](float x) { return std::isfinite(x); });
      out[size_t(r)] = finite ? int32_t(std::ranges::max_element(row) - row.begin()) : -1;
    }
  }

  void draw(std::span<int32_t> out, Mat<const float> logits, std::span<const Draw> draws) override {
    std::vector<uint64_t> scratch(static_cast<size_t>(2 * logits.cols));
    for (size_t i = 0; i < draws.size(); ++i) {
      const auto row = logits.row_span(draws[i].row);
      const bool finite = std::ranges::all_of(row, [](float x) { return std::isfinite(x); });
      out[i] = finite ? draw_token(row, draws[i], scratch) : -1;
    }
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

  void kl_divergence(std::span<float> out, Mat<const float> reference, Mat<const float> logits) override {
    for (int64_t r = 0; r < logits.rows; ++r) {
      const auto log_sum = [&](const float* x) {
        const double top = double(*std::max_element(x, x + logits.cols));
        double sum = 0;
        for (int64_t c = 0; c < logits.cols; ++c) sum += std::exp(double(x[c]) - top);
        return top + std::log(sum);
      };
      const float *p = reference.row(r), *q = logits.row(r);
      const double log_sum_p = log_sum(p), log_sum_q = log_sum(q);
      double kl = 0;
      for (int64_t c = 0; c < logits.cols; ++c) {
        const double log_p = double(p[c]) - log_sum_p, log_q = double(q[c]) - log_sum_q;
        kl += std::exp(log_p) * (log_p - log_q);
      }
      out[size_t(r)] = float(kl);
    }
  }

 private:
  /// out = in weight^T + bias, in [r, k] as `value` tells.
  template <class Value>
  static void multiply(Mat<float> out, int64_t rows, WeightView weight, std::span<const float> bias,
                       const Value& value) {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t n = 0; n < weight.rows; ++n) {
        double sum = bias.empty() ? 0.0 : double(bias[size_t(n)]);
        for (int64_t k = 0; k < weight.cols; ++k) sum += value(r, k) * weight_at(weight, n, k);
        out.row(r)[n] = float(sum);
      }
    }
  }

  static void quantize_row(QuantMat& out, int64_t r, std::span<const float> x, int bits) {
    const auto [least, most] = std::minmax_element(x.begin(), x.end());
    const auto [low, width] = code_range(*least, *most, bits, int64_t(x.size()));
    const float steps = float((1 << bits) - 1);
    out.scale[r] = width / steps;
    out.offset[r] = low;
    uint8_t* q = out.q + r * out.stride;
    std::fill_n(q, out.stride, uint8_t{0});
    const float factor = width > 0 ? steps / width : 0.0f;
    for (size_t c = 0; c < x.size(); ++c)
      q[c] = uint8_t(std::nearbyint(std::clamp((x[c] - low) * factor, 0.0f, steps)));
  }

  static void append_coded(const KvPages& kv, Mat<const float> k, Mat<const float> v,
                           std::span<const RowRun> runs) {
    for (const RowRun& run : runs) {
      const int64_t end = run.position + run.count;
      for (int64_t page = run.position / kBlock; page * kBlock < end; ++page)
        for (int64_t head = 0; head < kv.kv_heads; ++head)
          for (int64_t value = 0; value < 2; ++value)
            append_page(kv, value == 0 ? k : v, run, page, head, value);
    }
  }

  static void append_page(const KvPages& kv, Mat<const float> x, const RowRun& run, int64_t page,
                          int64_t head, int64_t value) {
    const int64_t d = kv.head_dim, begin = page * kBlock;
    const int64_t from = std::max(run.position, begin),
                  to = std::min(run.position + run.count, begin + kBlock);
    const Mat<const float> rows{x.row(run.row + from - run.position) + head * d, to - from, d, x.stride};
    const int32_t id = run.pages[size_t(page)];
    const bool seals = kv.format.seals(page) && to == begin + kBlock, whole = from == begin;
    std::vector<float> tokens(size_t(kBlock * d));
    const Mat<float> block{tokens.data(), kBlock, d, d};
    if (!seals || !whole) {
      std::byte* open = kv.open_part(id, head, value);
      for (int64_t i = 0; i < rows.rows; ++i) write_row(open, kv.open_side(), from - begin + i, rows.row(i));
      if (!seals) return;
      for (int64_t i = 0; i < kBlock; ++i) {
        const KvRow row(open, kv.open_side(), i);
        for (int64_t c = 0; c < d; ++c) block.row(i)[c] = float(row[c]);
      }
    }
    SeqMatrix(kv.format.plan.transform, kv.format.plan.levels).apply(block, whole ? rows : block, false);
    for (int64_t i = 0; i < kBlock; ++i)
      write_row(kv.sealed_part(id, head, value), kv.sealed_side(), i, block.row(i));
  }

  static void write_row(std::byte* side, const KvSide& format, int64_t r, const float* x) {
    const int64_t d = format.head_dim;
    const int bits = format.row_bits(r);
    const float low = std::min(0.0f, *std::min_element(x, x + d)),
                high = std::max(0.0f, *std::max_element(x, x + d));
    const float steps = float((1 << bits) - 1), unit = float(zero_steps(bits));
    const uint16_t half = f32_to_f16((high - low) / steps);
    const float scale = f16_to_f32(half), inverse = scale > 0 ? 1.0f / scale : 0.0f;
    const float zero = std::min(255.0f, std::nearbyint(-low * inverse * unit));
    std::memcpy(side + KvSide::kScales + 2 * r, &half, 2);
    side[KvSide::kZeros + r] = std::byte(uint8_t(zero));
    auto* q = reinterpret_cast<uint8_t*>(side) + format.row_offset(r);
    const auto code = [&](int64_t c) {
      return uint8_t(std::nearbyint(std::clamp(x[c] * inverse + zero / unit, 0.0f, steps)));
    };
    for (int64_t c = 0; c < format.row_bytes(r); ++c)
      q[c] = bits > 4 ? code(c) : uint8_t(code(c) | code(c + d / 2) << 4);
  }

  /// Rounds x to 8 bits: whole multiples of max |x| / 127.
  static void round_to_bytes(std::span<double> x) {
    double peak = 0;
    for (double value : x) peak = std::max(peak, std::abs(value));
    if (peak < kLeastPeak) peak = 0;
    for (double& value : x) value = peak > 0 ? std::nearbyint(value * (127 / peak)) * (peak / 127) : 0;
  }

  /// One query over the pages of one KV head: scores = L^-1 (K~ q), output = (L p)^T V~.
  static void attend_coded(float* out, const float* q, const KvPages& kv, int64_t head, const RowRun& run,
                           int64_t keys, float scale) {
    const int64_t d = kv.head_dim, length = run.position + run.count;
    const SeqMatrix matrix(kv.format.plan.transform, kv.format.plan.levels);
    const auto sealed = [&](int64_t page) { return kv.format.seals(page) && (page + 1) * kBlock <= length; };
    const auto row_of = [&](int64_t page, int64_t r, int64_t value) {
      const int32_t id = run.pages[size_t(page)];
      return sealed(page) ? KvRow(kv.sealed_part(id, head, value), kv.sealed_side(), r)
                          : KvRow(kv.open_part(id, head, value), kv.open_side(), r);
    };
    std::vector<double> query(q, q + d);
    round_to_bytes(query);
    const int64_t pages = divide_up(keys, kBlock);
    std::vector<double> p(size_t(pages * kBlock), -INFINITY);
    for (int64_t page = 0; page < pages; ++page) {
      double* scores = p.data() + page * kBlock;
      const int64_t rows = std::min(kBlock, length - page * kBlock);
      for (int64_t r = 0; r < rows; ++r) {
        const KvRow key = row_of(page, r, 0);
        scores[r] = 0;
        for (int64_t c = 0; c < d; ++c) scores[r] += query[size_t(c)] * double(scale) * key[c];
      }
      if (sealed(page)) matrix.apply(scores, true);
    }
    std::fill(p.begin() + keys, p.end(), -INFINITY);
    const double top = *std::max_element(p.begin(), p.end());
    double sum = 0;
    for (double& x : p) sum += x = std::exp(x - top);
    std::vector<double> total(size_t(d), 0.0);
    for (int64_t page = 0; page < pages; ++page) {
      double* weights = p.data() + page * kBlock;
      if (sealed(page)) matrix.apply(weights, false);
      // Rounded are the weights of whole numbers: the rows' scales belong to them.
      const int64_t rows = std::min(kBlock, length - page * kBlock);
      const KvSide side = sealed(page) ? kv.sealed_side() : kv.open_side();
      for (int64_t r = 0; r < rows; ++r) weights[r] *= row_of(page, r, 1).scale;
      if (rows > side.wide_rows()) round_to_bytes({weights + side.wide_rows(), weights + rows});
      for (int64_t r = 0; r < rows; ++r) {
        const KvRow value = row_of(page, r, 1);
        for (int64_t c = 0; c < d; ++c) total[size_t(c)] += weights[r] * value.centred(c);
      }
    }
    for (int64_t c = 0; c < d; ++c) out[c] = float(total[size_t(c)] / sum);
  }

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
