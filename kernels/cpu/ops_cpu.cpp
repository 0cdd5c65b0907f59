#include "kernels/cpu/ops_cpu.h"

#include <algorithm>

#include "kernels/buffer.h"
#include "kernels/cpu/thread_pool.h"

namespace stamp {
namespace {

constexpr int64_t kPanelBytes =
    384 << 10;                            // of widened weights: stays in a second-level cache beside the rows
constexpr int64_t kQueryTile = 16;        // tokens of an attention tile; divides kBlock
constexpr int64_t kSerialFloats = 16384;  // elementwise work below this is done before a worker would wake

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

class CpuOps final : public Ops {
 public:
  CpuOps(const CpuKernels& kernels, int threads)
      : kernels_(kernels), pool_(threads), scratch_(size_t(pool_.threads())) {}

  std::string_view name() const override { return kernels_.name; }
  int threads() const override { return pool_.threads(); }

  void embed(Mat<float> out, std::span<const int32_t> ids, WeightView table) override {
    const int64_t row_bytes = table.cols * dtype_size(table.dtype);
    for_rows(out.rows, out.cols, [&](int64_t r) {
      const auto* row = static_cast<const std::byte*>(table.data) + ids[size_t(r)] * row_bytes;
      kernels_.widen(out.row(r), row, table.dtype, table.cols);
    });
  }

  void rms_norm(Mat<float> out, Mat<const float> in, std::span<const float> gain, float eps) override {
    for_rows(in.rows, in.cols,
             [&](int64_t r) { kernels_.rms_norm(out.row(r), in.row(r), gain.data(), in.cols, eps); });
  }

  void linear(Mat<float> out, Mat<const float> in, WeightView weight, std::span<const float> bias) override {
    if (in.rows <= kernels_.few_rows) return linear_few(out, in, weight, bias);
    const int64_t k = weight.cols, tile = kernels_.col_tile;
    const int64_t panel = std::clamp<int64_t>(kPanelBytes / (k * 4) / tile * tile, tile, 128 / tile * tile);
    const int64_t panels = divide_up(weight.rows, panel);
    // Panels alone may be too few for the threads: then split the rows too, and widen a panel more than once.
    const int64_t wanted = divide_up(4 * threads(), panels);
    const int64_t block = std::max<int64_t>(64, divide_up(divide_up(in.rows, wanted), 4) * 4);
    const int64_t blocks = divide_up(in.rows, block);
    for (auto& scratch : scratch_) reserve(scratch, panel * k);
    pool_.parallel_for(panels * blocks, [&](int64_t item, int thread) {
      const int64_t col = item / blocks * panel, cols = std::min(panel, weight.rows - col);
      const int64_t row = item % blocks * block, rows = std::min(block, in.rows - row);
      const void* w = weight_row(weight, col);
      if (weight.dtype != DType::kF32) {
        float* widened = scratch_[size_t(thread)].data();
        kernels_.widen(widened, w, weight.dtype, cols * k);
        w = widened;
      }
      kernels_.linear(out.row(row) + col, out.stride, in.row(row), in.stride, rows, w, DType::kF32, k, cols,
                      k, bias.empty() ? nullptr : bias.data() + col);
    });
  }

  void rope(Mat<float> x, Mat<const float> cos, Mat<const float> sin) override {
    const int64_t head_dim = 2 * cos.cols, heads = x.cols / head_dim;
    for_rows(x.rows, x.cols,
             [&](int64_t r) { kernels_.rope(x.row(r), heads, head_dim, cos.row(r), sin.row(r)); });
  }

  void silu_mul(Mat<float> gate, Mat<const float> up) override {
    for_rows(gate.rows, 4 * gate.cols,
             [&](int64_t r) { kernels_.silu_mul(gate.row(r), up.row(r), gate.cols); });
  }

  void add(Mat<float> x, Mat<const float> y) override {
    for_rows(x.rows, x.cols, [&](int64_t r) { kernels_.add(x.row(r), y.row(r), x.cols); });
  }

  void append_kv(KvPages kv, Mat<const float> k, Mat<const float> v, std::span<const RowRun> runs) override {
    const int64_t d = kv.head_dim;
    for (const RowRun& run : runs) {
      for (int64_t i = 0; i < run.count; ++i) {
        const int64_t position = run.position + i, slot = position % kBlock;
        const int32_t page = run.pages[size_t(position / kBlock)];
        for (int64_t head = 0; head < kv.kv_heads; ++head) {
          const float* key = k.row(run.row + i) + head * d;
          float* column = kv.k(page, head) + slot;
          for (int64_t c = 0; c < d; ++c) column[c * kBlock] = key[c];
          std::copy_n(v.row(run.row + i) + head * d, d, kv.v(page, head) + slot * d);
        }
      }
    }
  }

  void attention(Mat<float> out, Mat<const float> q, KvPages kv, std::span<const RowRun> runs,
                 float scale) override {
    const int64_t d = kv.head_dim, group = q.cols / d / kv.kv_heads;
    for (auto& scratch : scratch_) reserve(scratch, attend_scratch_floats(kQueryTile * group, d));
    for (const RowRun& run : runs) {
      // Tiles begin at multiples of kQueryTile in the sequence, so a tile never straddles a page. The last
      // tiles see the most keys; they go first to keep the threads level.
      const int64_t first = run.position / kQueryTile, end = divide_up(run.position + run.count, kQueryTile);
      const int64_t tiles = end - first;
      pool_.parallel_for(tiles * kv.kv_heads, [&](int64_t item, int thread) {
        const int64_t tile = end - 1 - item / kv.kv_heads, head = item % kv.kv_heads;
        const int64_t from = std::max(run.position, tile * kQueryTile);
        const int64_t to = std::min(run.position + run.count, (tile + 1) * kQueryTile);
        const int64_t row = run.row + from - run.position, column = head * group * d;
        kernels_.attend({.out = out.row(row) + column,
                         .q = q.row(row) + column,
                         .out_stride = out.stride,
                         .q_stride = q.stride,
                         .tokens = to - from,
                         .group = group,
                         .head_dim = d,
                         .position = from,
                         .page_base = kv.pages.data(),
                         .pages = run.pages.data(),
                         .k_offset = kv.offset + head * d * kBlock,
                         .v_offset = kv.offset + (kv.kv_heads + head) * d * kBlock,
                         .scale = scale,
                         .scratch = scratch_[size_t(thread)].data()});
      });
    }
  }

  void token_logprobs(std::span<float> out, Mat<const float> logits,
                      std::span<const int32_t> targets) override {
    pool_.parallel_for(logits.rows, [&](int64_t r, int) {
      const float* row = logits.row(r);
      out[size_t(r)] = float(double(row[targets[size_t(r)]]) - kernels_.log_sum_exp(row, logits.cols));
    });
  }

 private:
  static const void* weight_row(WeightView w, int64_t row) {
    return static_cast<const std::byte*>(w.data) + row * w.cols * dtype_size(w.dtype);
  }

  static void reserve(Buffer<float>& buffer, int64_t floats) {
    if (buffer.size() < floats) buffer = Buffer<float>(floats);
  }

  /// Few rows: bound by reading the weights, once, as they are stored.
  void linear_few(Mat<float> out, Mat<const float> in, WeightView weight, std::span<const float> bias) {
    const int64_t tile = kernels_.col_tile * 8;  // whole tiles of every row count (6 and 8 columns)
    const int64_t wanted = divide_up(weight.rows, 8 * threads());
    const int64_t span = std::max(tile, divide_up(wanted, tile) * tile);
    pool_.parallel_for(divide_up(weight.rows, span), [&](int64_t item, int) {
      const int64_t col = item * span, cols = std::min(span, weight.rows - col);
      kernels_.linear(out.data + col, out.stride, in.data, in.stride, in.rows, weight_row(weight, col),
                      weight.dtype, weight.cols, cols, weight.cols,
                      bias.empty() ? nullptr : bias.data() + col);
    });
  }

  /// body(row), on the pool if `rows * floats_per_row` is worth waking it.
  template <class Body>
  void for_rows(int64_t rows, int64_t floats_per_row, const Body& body) {
    if (rows * floats_per_row < kSerialFloats) {
      for (int64_t r = 0; r < rows; ++r) body(r);
      return;
    }
    const int64_t span = std::max<int64_t>(1, kSerialFloats / 2 / floats_per_row);
    pool_.parallel_for(divide_up(rows, span), [&](int64_t item, int) {
      for (int64_t r = item * span; r < std::min(rows, (item + 1) * span); ++r) body(r);
    });
  }

  const CpuKernels& kernels_;
  ThreadPool pool_;
  std::vector<Buffer<float>> scratch_;  // one a thread
};

}  // namespace

std::unique_ptr<Ops> make_cpu_ops(const CpuKernels& kernels, int threads) {
  return std::make_unique<CpuOps>(kernels, threads);
}

}  // namespace stamp
