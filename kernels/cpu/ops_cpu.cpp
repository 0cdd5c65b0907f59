#include "kernels/cpu/ops_cpu.h"

#include <algorithm>
#include <cmath>

#include "kernels/buffer.h"
#include "kernels/thread_pool.h"

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
    if (is_quantised(table.dtype)) return embed_quantised(out, ids, table);
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
    if (in.rows <= kernels_.few_rows && !is_quantised(weight.dtype)) return linear_few(out, in, weight, bias);
    const int64_t k = weight.cols, ldw = is_quantised(weight.dtype) ? weight.padded_cols() : k;
    const int64_t tile = is_quantised(weight.dtype) ? kPanel : kernels_.col_tile;
    const int64_t panel = std::clamp<int64_t>(kPanelBytes / (k * 4) / tile * tile, tile, 128 / tile * tile);
    const int64_t panels = divide_up(weight.rows, panel);
    // Panels alone may be too few for the threads: then split the rows too, and widen a panel more than once.
    const int64_t wanted = divide_up(4 * threads(), panels);
    const int64_t block = std::max<int64_t>(64, divide_up(divide_up(in.rows, wanted), 4) * 4);
    const int64_t blocks = divide_up(in.rows, block);
    for (auto& scratch : scratch_) reserve(scratch, panel * ldw);
    pool_.parallel_for(panels * blocks, [&](int64_t item, int thread) {
      const int64_t col = item / blocks * panel, cols = std::min(panel, weight.rows - col);
      const int64_t row = item % blocks * block, rows = std::min(block, in.rows - row);
      float* widened = scratch_[size_t(thread)].data();
      const float* w = widened;
      if (is_quantised(weight.dtype)) {
        for (int64_t c = 0; c < cols; c += kPanel)
          kernels_.widen_panel(widened + c * ldw, ldw, product_of(weight), (col + c) / kPanel);
      } else if (weight.dtype == DType::kF32) {
        w = static_cast<const float*>(weight_row(weight, col));
      } else {
        kernels_.widen(widened, weight_row(weight, col), weight.dtype, cols * k);
      }
      kernels_.linear(out.row(row) + col, out.stride, in.row(row), in.stride, rows, w, DType::kF32, ldw, cols,
                      k, bias.empty() ? nullptr : bias.data() + col);
    });
  }

  void linear(Mat<float> out, const QuantMat& in, WeightView weight, std::span<const float> bias) override {
    if (!is_quantised(weight.dtype)) {
      reserve(floats_, in.rows * in.cols);
      const Mat<float> values = floats_.mat(in.rows, in.cols);
      for_rows(in.rows, in.cols, [&](int64_t r) {
        kernels_.dequantize_row(values.row(r), in.q + r * in.stride, in.cols, in.scale[r], in.offset[r]);
      });
      linear(out, values, weight, {});
    }
    IntLinear product = product_of(weight);
    if (product.four_bits) product.sums = sums_of(in, weight);
    product.q = in.q, product.ldq = in.stride, product.scale = in.scale, product.offset = in.offset;
    product.out = out.data, product.ldo = out.stride;
    // A task is one tile of rows and some panels: what it writes is still in cache for the inverse and the
    // bias.
    const int64_t tiles = int64_t(in.tiles.size());
    const int64_t spans =
        std::min(weight.panels(), std::max(divide_up(weight.panels(), 8), divide_up(4 * threads(), tiles)));
    const int64_t span = divide_up(weight.panels(), spans);
    pool_.parallel_for(divide_up(weight.panels(), span) * tiles, [&](int64_t item, int) {
      const RowTile& tile = in.tiles[size_t(item % tiles)];
      const int64_t panel = item / tiles * span, last = std::min(panel + span, weight.panels());
      const int64_t col = panel * kPanel, cols = std::min(last * kPanel, weight.rows) - col;
      const Mat<float> part{out.row(tile.row) + col, tile.count, cols, out.stride};
      if (is_quantised(weight.dtype)) kernels_.int_linear(rows_of(product, tile, panel, last));
      if (tile.coded)
        kernels_.transform(part.data, part.stride, part.data, part.stride, cols, in.plan.transform,
                           in.plan.levels, true);
      if (!bias.empty())
        for (int64_t r = 0; r < tile.count; ++r) kernels_.add(part.row(r), bias.data() + col, cols);
    });
  }

  void quantize(QuantMat& out, Mat<const float> in) override {
    for (auto& scratch : scratch_) reserve(scratch, kBlock * in.cols);
    const auto row = [&](int64_t r, const float* x, int bits) {
      kernels_.quantize_row(out.q + r * out.stride, out.scale + r, out.offset + r, x, in.cols, out.stride,
                            bits);
    };
    pool_.parallel_for(int64_t(out.tiles.size()), [&](int64_t item, int thread) {
      const RowTile& tile = out.tiles[size_t(item)];
      if (!tile.coded) {
        for (int64_t r = tile.row; r < tile.row + tile.count; ++r) row(r, in.row(r), kTokenBits);
        return;
      }
      float* coefficients = scratch_[size_t(thread)].data();
      kernels_.transform(coefficients, in.cols, in.row(tile.row), in.stride, in.cols, out.plan.transform,
                         out.plan.levels, false);
      for (int64_t r = 0; r < kBlock; ++r) row(tile.row + r, coefficients + r * in.cols, out.plan.bits(r));
    });
  }

  void rotate(Mat<float> x, const RotationView& rotation, bool inverse) override {
    for (auto& scratch : scratch_) reserve(scratch, x.cols);
    const int64_t block = rotation.block, blocks = x.cols / block;
    const float scale = 1.0f / std::sqrt(float(block));
    pool_for_rows(x.rows, 8 * x.cols, [&](int64_t r, int thread) {
      float* row = x.row(r);
      const auto flip = [&] {
        for (size_t c = 0; c < rotation.signs.size(); ++c) row[c] *= rotation.signs[c];
      };
      if (!inverse) flip();
      for (int64_t b = 0; b < blocks; ++b) kernels_.hadamard(row + b * block, block, scale);
      if (!rotation.mix.empty()) {
        float* mixed = scratch_[size_t(thread)].data();
        std::fill_n(mixed, x.cols, 0.0f);
        for (int64_t to = 0; to < blocks; ++to)
          for (int64_t from = 0; from < blocks; ++from) {
            const float factor = rotation.mix[size_t(inverse ? from * blocks + to : to * blocks + from)];
            for (int64_t c = 0; c < block; ++c) mixed[to * block + c] += factor * row[from * block + c];
          }
        std::copy_n(mixed, x.cols, row);
      }
      if (inverse) flip();
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
    if (kv.format.coded) return append_coded(kv, k, v, runs);
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
    for (auto& scratch : scratch_) {
      reserve(scratch, kv.format.coded ? coded_scratch_floats(kQueryTile * group, d)
                                       : attend_scratch_floats(kQueryTile * group, d));
    }
    // A batch of short runs is one loop, too: decode of many sequences.
    tasks_.clear();
    for (const RowRun& run : runs) {
      // Tiles begin at multiples of kQueryTile in the sequence, so a tile never straddles a page. The last
      // tiles see the most keys; they go first to keep the threads level.
      const int64_t first = run.position / kQueryTile, end = divide_up(run.position + run.count, kQueryTile);
      for (int64_t tile = end - 1; tile >= first; --tile)
        for (int64_t head = 0; head < kv.kv_heads; ++head) tasks_.push_back({&run, tile, head});
    }
    pool_.parallel_for(int64_t(tasks_.size()), [&](int64_t item, int thread) {
      const auto& [run, tile, head] = tasks_[size_t(item)];
      const int64_t from = std::max(run->position, tile * kQueryTile);
      const int64_t to = std::min(run->position + run->count, (tile + 1) * kQueryTile);
      const int64_t row = run->row + from - run->position, column = head * group * d;
      float* scratch = scratch_[size_t(thread)].data();
      if (kv.format.coded) {
        kernels_.attend_coded({.out = out.row(row) + column,
                               .q = q.row(row) + column,
                               .out_stride = out.stride,
                               .q_stride = q.stride,
                               .tokens = to - from,
                               .group = group,
                               .head_dim = d,
                               .position = from,
                               .length = run->position + run->count,
                               .first_sealed = kv.format.seals(0) ? 0 : 1,
                               .end_sealed = kv.format.seals(1) ? (run->position + run->count) / kBlock : 0,
                               .open = kv.open.data(),
                               .sealed = kv.sealed.data(),
                               .pages = run->pages.data(),
                               .open_k = kv.open_offset(head, 0),
                               .open_v = kv.open_offset(head, 1),
                               .sealed_k = kv.sealed_offset(head, 0),
                               .sealed_v = kv.sealed_offset(head, 1),
                               .open_side = kv.open_side(),
                               .sealed_side = kv.sealed_side(),
                               .transform = kv.format.plan.transform,
                               .levels = kv.format.plan.levels,
                               .scale = scale,
                               .scratch = scratch});
        return;
      }
      const int64_t layer = kv.layer_index * kv.open_layer_bytes() / int64_t{sizeof(float)};
      kernels_.attend({.out = out.row(row) + column,
                       .q = q.row(row) + column,
                       .out_stride = out.stride,
                       .q_stride = q.stride,
                       .tokens = to - from,
                       .group = group,
                       .head_dim = d,
                       .position = from,
                       .page_base = kv.open.data(),
                       .pages = run->pages.data(),
                       .k_offset = layer + head * d * kBlock,
                       .v_offset = layer + (kv.kv_heads + head) * d * kBlock,
                       .scale = scale,
                       .scratch = scratch});
    });
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

  /// A row of a panel is scattered: the panel is widened as a whole, a token is little work all the same.
  void embed_quantised(Mat<float> out, std::span<const int32_t> ids, WeightView table) {
    const int64_t ld = table.padded_cols();
    for (auto& scratch : scratch_) reserve(scratch, kPanel * ld);
    pool_for_rows(out.rows, kPanel * out.cols, [&](int64_t r, int thread) {
      float* panel = scratch_[size_t(thread)].data();
      kernels_.widen_panel(panel, ld, product_of(table), ids[size_t(r)] / kPanel);
      std::copy_n(panel + ids[size_t(r)] % kPanel * ld, table.cols, out.row(r));
    });
  }

  static IntLinear product_of(const WeightView& w) {
    return {.cols = w.rows,
            .four_bits = w.dtype == DType::kQ4,
            .weights = static_cast<const uint8_t*>(w.data),
            .panel_bytes = w.panel_bytes(),
            .groups = w.groups(),
            .group = w.padded_cols() / w.groups(),
            .weight_scale = w.scale,
            .weight_zero = w.zero,
            .weight_sum = w.sum};
  }

  static IntLinear rows_of(IntLinear product, const RowTile& tile, int64_t first_panel, int64_t last_panel) {
    product.out += tile.row * product.ldo;
    product.rows = tile.count;
    product.q += tile.row * product.ldq;
    product.scale += tile.row, product.offset += tile.row;
    if (product.sums != nullptr) product.sums += tile.row * product.groups;
    product.first_panel = first_panel, product.last_panel = last_panel;
    return product;
  }

  /// Each row's sums of q over the weight's groups: what its zero points are multiplied with.
  const float* sums_of(const QuantMat& in, const WeightView& weight) {
    const int64_t groups = weight.groups();
    reserve(sums_, in.rows * groups);
    for_rows(in.rows, in.cols, [&](int64_t r) {
      kernels_.group_sums(sums_.data() + r * groups, in.q + r * in.stride, groups, weight.group);
    });
    return sums_.data();
  }

  void append_coded(const KvPages& kv, Mat<const float> k, Mat<const float> v, std::span<const RowRun> runs) {
    const int64_t d = kv.head_dim;
    for (auto& scratch : scratch_) reserve(scratch, 2 * kBlock * (d + 1));
    pages_.clear();
    for (const RowRun& run : runs) {
      const int64_t end = run.position + run.count;
      for (int64_t page = run.position / kBlock; page * kBlock < end; ++page) pages_.push_back({&run, page});
    }
    pool_.parallel_for(int64_t(pages_.size()) * kv.kv_heads * 2, [&](int64_t item, int thread) {
      const auto& [run, page] = pages_[size_t(item / (kv.kv_heads * 2))];
      const int64_t head = item / 2 % kv.kv_heads, value = item % 2;
      append_page(kv, value == 0 ? k : v, *run, page, head, value, scratch_[size_t(thread)].data());
    });
  }

  /// One head's keys or values of a run that fall into one page.
  void append_page(const KvPages& kv, Mat<const float> x, const RowRun& run, int64_t page, int64_t head,
                   int64_t value, float* scratch) {
    const int64_t d = kv.head_dim, begin = page * kBlock, id = run.pages[size_t(page)];
    const int64_t from = std::max(run.position, begin),
                  to = std::min(run.position + run.count, begin + kBlock);
    const float* rows = x.row(run.row + from - run.position) + head * d;
    const bool seals = kv.format.seals(page) && to == begin + kBlock;
    const BitPlan& plan = kv.format.plan;
    float *tokens = scratch, *transformed = tokens + kBlock * d, *scale = transformed + kBlock * d,
          *offset = scale + kBlock;
    if (seals && from == begin) {
      kernels_.kv_seal(kv.sealed_part(int32_t(id), head, value), kv.sealed_side(), rows, x.stride,
                       plan.transform, plan.levels, transformed);
      return;
    }
    std::byte* open = kv.open_part(int32_t(id), head, value);
    for (int64_t i = from; i < to; ++i)
      kernels_.kv_write_row(open, kv.open_side(), i - begin, rows + (i - from) * x.stride);
    if (!seals) return;
    kernels_.kv_unpack(tokens, scale, offset, open, kv.open_side(), kBlock);
    for (int64_t i = 0; i < kBlock; ++i)
      for (int64_t c = 0; c < d; ++c) tokens[i * d + c] = scale[i] * tokens[i * d + c] + offset[i];
    kernels_.kv_seal(kv.sealed_part(int32_t(id), head, value), kv.sealed_side(), tokens, d, plan.transform,
                     plan.levels, transformed);
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

  /// body(row, thread), on the pool if `rows * floats_per_row` is worth waking it.
  template <class Body>
  void pool_for_rows(int64_t rows, int64_t floats_per_row, const Body& body) {
    if (rows * floats_per_row < kSerialFloats) {
      for (int64_t r = 0; r < rows; ++r) body(r, 0);
      return;
    }
    const int64_t span = std::max<int64_t>(1, kSerialFloats / 2 / floats_per_row);
    pool_.parallel_for(divide_up(rows, span), [&](int64_t item, int thread) {
      for (int64_t r = item * span; r < std::min(rows, (item + 1) * span); ++r) body(r, thread);
    });
  }
  template <class Body>
  void for_rows(int64_t rows, int64_t floats_per_row, const Body& body) {
    pool_for_rows(rows, floats_per_row, [&body](int64_t r, int) { body(r); });
  }

  struct AttentionTask {
    const RowRun* run;
    int64_t tile, head;
  };
  struct PageTask {
    const RowRun* run;
    int64_t page;
  };

  const CpuKernels& kernels_;
  ThreadPool pool_;
  std::vector<Buffer<float>> scratch_;  // one a thread
  Buffer<float> floats_;                // activations turned back into floats, for float weights
  Buffer<float> sums_;                  // of activations over groups, for 4-bit weights
  std::vector<AttentionTask> tasks_;
  std::vector<PageTask> pages_;
};

}  // namespace

std::unique_ptr<Ops> make_cpu_ops(const CpuKernels& kernels, int threads) {
  return std::make_unique<CpuOps>(kernels, threads);
}

}  // namespace stamp
