#include "kernels/cpu/ops_cpu.h"

#include <algorithm>
#include <cmath>

#include "kernels/argmax.h"
#include "kernels/buffer.h"
#include "kernels/cpu/product_tasks.h"
#include "kernels/cpu/row_steps.h"
#include "kernels/thread_pool.h"

namespace stamp {
namespace {

constexpr int64_t kQueryTile =
    16;  // tokens of an attention tile, at least over coefficient pages; divides kBlock

class CpuOps final : public Ops {
 public:
  CpuOps(const CpuKernels& kernels, int threads)
      : kernels_(kernels),
        pool_(threads),
        scratch_(size_t(pool_.threads())),
        places_(scratch_.size()),
        product_tasks_(pool_.threads()),
        row_steps_(kernels, pool_, scratch_) {}

  std::string_view name() const override { return kernels_.name; }
  int threads() const override { return pool_.threads(); }

  void embed(Mat<float> out, std::span<const int32_t> ids, WeightView table) override {
    row_steps_.run();
    if (is_quantised(table.dtype)) return embed_quantised(out, ids, table);
    const int64_t row_bytes = table.cols * dtype_size(table.dtype);
    for_rows(out.rows, out.cols, [&](int64_t r) {
      const auto* row = static_cast<const std::byte*>(table.data) + ids[size_t(r)] * row_bytes;
      kernels_.widen(out.row(r), row, table.dtype, table.cols);
    });
  }

  void gather(Mat<float> out, Mat<const float> in, std::span<const int32_t> rows) override {
    row_steps_.run();
    for_rows(out.rows, out.cols,
             [&](int64_t r) { std::copy_n(in.row(rows[size_t(r)]), in.cols, out.row(r)); });
  }

  void begin_pass() override { in_pass_ = true; }
  void end_pass() override {
    row_steps_.run();
    in_pass_ = false;
  }

  void rms_norm(Mat<float> out, Mat<const float> in, std::span<const float> gain, float eps) override {
    then(NormStep{out, in, gain.data(), eps});
  }

  void linear(std::span<const Product> products, Mat<const float> in) override {
    row_steps_.run();
    if (in.rows > kernels_.few_rows) linear_many(products, in);
    else linear_few(products, in);
  }

  void linear(std::span<const Product> products, const QuantMat& in) override {
    row_steps_.run();
    const bool integers = is_quantised(products.front().weight.dtype);
    if (!integers) linear_dequantised(products, in);
    const auto four =
        std::ranges::find(products, DType::kQ4, [](const Product& p) { return p.weight.dtype; });
    // A task is a span of tiles and some panels: 4-bit ones become bytes once for all of its rows, and what
    // it writes is still in cache for the inverse and the bias.
    product_tasks_.split_integers(products, in.tiles, in.rows, four != products.end());
    const auto columns = product_tasks_.columns();
    const auto spans = product_tasks_.rows();
    const bool summed =
        four != products.end() && std::ranges::any_of(spans, [&](const ProductTasks::Rows& span) {
          return span.rows <= kernels_.summed_rows;
        });
    const int16_t* sums = summed ? sums_of(in, four->weight) : nullptr;
    int64_t scratch_bytes = 0;
    for (const Product& product : products)
      for (const ProductTasks::Rows& span : spans)
        scratch_bytes = std::max(scratch_bytes, int_scratch_bytes(product.weight, span.rows));
    for (auto& scratch : scratch_) reserve(scratch, scratch_bytes / int64_t{sizeof(float)});
    pool_.parallel_for(int64_t(columns.size() * spans.size()), [&](int64_t item, int thread) {
      const auto& [tiles, row, rows] = spans[size_t(item) / columns.size()];
      const auto& [product, col, cols] = columns[size_t(item) % columns.size()];
      if (integers) {
        IntLinear job = product_of(product->weight);
        job.out = product->out.row(row), job.ldo = product->out.stride, job.rows = rows;
        job.q = in.q + row * in.stride, job.ldq = in.stride;
        job.scale = in.scale + row, job.offset = in.offset + row;
        job.tiles = tiles.data(), job.tile_count = std::ssize(tiles);
        job.transform = in.plan.transform, job.levels = in.plan.levels;
        if (sums != nullptr) job.sums = sums + row * job.zero_groups;
        job.first_panel = col / kPanel, job.last_panel = divide_up(col + cols, kPanel);
        job.scratch = reinterpret_cast<uint8_t*>(scratch_[size_t(thread)].data());
        kernels_.int_linear(job);
      }
      for (const RowTile& tile : tiles) {
        const Mat<float> part{product->out.row(tile.row) + col, tile.count, cols, product->out.stride};
        if (tile.coded && !integers)
          kernels_.transform(part.data, part.stride, part.data, part.stride, cols, in.plan.transform,
                             in.plan.levels, true);
        if (!product->bias.empty())
          for (int64_t r = 0; r < tile.count; ++r)
            kernels_.add(part.row(r), product->bias.data() + col, cols);
      }
    });
  }

  void quantize(QuantMat& out, Mat<const float> in) override { then(QuantizeStep{out, in, in_pass_}); }

  void rotate(Mat<float> x, const RotationView& rotation, bool inverse) override {
    then(RotateStep{x, rotation, inverse});
  }

  void rope(Mat<float> x, Mat<const float> cos, Mat<const float> sin) override {
    then(RopeStep{x, cos, sin});
  }

  void silu_mul(Mat<float> gate, Mat<const float> up) override { then(SiluStep{gate, up}); }

  void add(Mat<float> x, Mat<const float> y) override { then(AddStep{x, y}); }

  void append_kv(KvPages kv, Mat<const float> k, Mat<const float> v, std::span<const RowRun> runs) override {
    row_steps_.run();
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
    row_steps_.run();
    const int64_t d = kv.head_dim, group = q.cols / d / kv.kv_heads;
    const int64_t tile_tokens = kv.format.coded ? coded_tile(runs, kv.kv_heads) : kQueryTile;
    // A batch of short runs is one loop, too: decode of many sequences.
    tasks_.clear();
    for (const RowRun& run : runs) {
      // Tiles begin at multiples of their size in the sequence, so a tile never straddles a page.
      const int64_t end = divide_up(run.position + run.count, tile_tokens);
      for (int64_t tile = run.position / tile_tokens; tile < end; ++tile) {
        const int64_t from = std::max(run.position, tile * tile_tokens);
        const int64_t to = std::min(run.position + run.count, (tile + 1) * tile_tokens);
        for (int64_t head = 0; head < kv.kv_heads; ++head) tasks_.push_back({&run, from, to - from, head});
      }
    }
    if (kv.format.coded) return attention_coded(out, q, kv, group, tile_tokens, scale);
    for (auto& scratch : scratch_) reserve(scratch, attend_scratch_floats(tile_tokens * group, d));
    pool_.parallel_for(int64_t(tasks_.size()), [&](int64_t item, int thread) {
      const AttentionTask& task = tasks_[size_t(item)];
      const auto& [run, position, tokens, head] = task;
      const int64_t row = task.row(), column = head * group * d;
      const int64_t layer = kv.layer_index * kv.open_layer_bytes() / int64_t{sizeof(float)};
      kernels_.attend({.out = out.row(row) + column,
                       .q = q.row(row) + column,
                       .out_stride = out.stride,
                       .q_stride = q.stride,
                       .tokens = tokens,
                       .group = group,
                       .head_dim = d,
                       .position = position,
                       .page_base = kv.open.data(),
                       .pages = run->pages.data(),
                       .k_offset = layer + head * d * kBlock,
                       .v_offset = layer + (kv.kv_heads + head) * d * kBlock,
                       .scale = scale,
                       .scratch = scratch_[size_t(thread)].data()});
    });
  }

  void argmax(std::span<int32_t> out, Mat<const float> logits) override {
    row_steps_.run();
    // By columns, as products of few rows are: a core has written what it reads here.
    constexpr int64_t kChunk = 4096;
    const int64_t chunks = divide_up(logits.cols, kChunk);
    reserve(likeliest_, chunks * logits.rows);
    pool_.parallel_for(chunks, [&](int64_t chunk, int) {
      const int64_t first = chunk * kChunk, count = std::min(kChunk, logits.cols - first);
      for (int64_t r = 0; r < logits.rows; ++r) {
        const std::span<const float> values(logits.row(r) + first, size_t(count));
        likeliest_[chunk * logits.rows + r] =
            all_finite(values) ? int32_t(first) + stamp::argmax(values) : -1;
      }
    });
    for (int64_t r = 0; r < logits.rows; ++r) {
      int32_t& best = out[size_t(r)] = likeliest_[r];
      for (int64_t chunk = 1; chunk < chunks && best >= 0; ++chunk) {
        const int32_t other = likeliest_[chunk * logits.rows + r];
        if (other < 0 || logits.row(r)[other] > logits.row(r)[best]) best = other;
      }
    }
  }

  void draw(std::span<int32_t> out, Mat<const float> logits, std::span<const Draw> draws) override {
    row_steps_.run();
    for (auto& places : places_) reserve(places, 2 * logits.cols);
    pool_for_rows(pool_, int64_t(draws.size()), logits.cols, [&](int64_t i, int thread) {
      const std::span<const float> row = logits.row_span(draws[size_t(i)].row);
      out[size_t(i)] =
          all_finite(row) ? draw_token(row, draws[size_t(i)], places_[size_t(thread)].span()) : -1;
    });
  }

  void token_logprobs(std::span<float> out, Mat<const float> logits,
                      std::span<const int32_t> targets) override {
    row_steps_.run();
    pool_.parallel_for(logits.rows, [&](int64_t r, int) {
      const float* row = logits.row(r);
      out[size_t(r)] = float(double(row[targets[size_t(r)]]) - kernels_.log_sum_exp(row, logits.cols));
    });
  }

  void kl_divergence(std::span<float> out, Mat<const float> reference, Mat<const float> logits) override {
    row_steps_.run();
    pool_.parallel_for(logits.rows, [&](int64_t r, int) {
      const float *p = reference.row(r), *q = logits.row(r);
      const double log_sum_p = kernels_.log_sum_exp(p, logits.cols);
      const double log_sum_q = kernels_.log_sum_exp(q, logits.cols);
      out[size_t(r)] =
          float(kernels_.weighted_difference(p, q, logits.cols, log_sum_p) + log_sum_q - log_sum_p);
    });
  }

 private:
  static const void* weight_row(WeightView w, int64_t row) {
    return static_cast<const std::byte*>(w.data) + row * w.cols * dtype_size(w.dtype);
  }

  void embed_quantised(Mat<float> out, std::span<const int32_t> ids, WeightView table) {
    const int64_t ld = table.padded_cols();
    for (auto& scratch : scratch_) reserve(scratch, ld);
    pool_for_rows(pool_, out.rows, out.cols, [&](int64_t r, int thread) {
      float* padded = scratch_[size_t(thread)].data();
      kernels_.widen_rows(padded, ld, product_of(table), ids[size_t(r)], 1);
      std::copy_n(padded, table.cols, out.row(r));
    });
  }

  /// tasks_ over coefficient pages. Few tasks, as in decode, are split further, into spans of pages.
  void attention_coded(Mat<float> out, Mat<const float> q, const KvPages& kv, int64_t group,
                       int64_t tile_tokens, float scale) {
    const int64_t d = kv.head_dim, tasks = int64_t(tasks_.size());
    const auto tile_of = [&](const AttentionTask& task) {
      const auto& [run, position, tokens, head] = task;
      const int64_t row = task.row(), column = head * group * d;
      const int64_t length = run->position + run->count;
      return CodedTile{.out = out.row(row) + column,
                       .q = q.row(row) + column,
                       .out_stride = out.stride,
                       .q_stride = q.stride,
                       .tokens = tokens,
                       .group = group,
                       .head_dim = d,
                       .position = position,
                       .length = length,
                       .first_page = 0,
                       .end_page = divide_up(position + tokens, kBlock),
                       .first_sealed = kv.format.seals(0) ? 0 : 1,
                       .end_sealed = kv.format.seals(1) ? length / kBlock : 0,
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
                       .next = nullptr,
                       .state = nullptr,
                       .scratch = nullptr};
    };
    const bool splits = threads() > 1 && tasks < 4 * threads();
    spans_.clear();
    for (int64_t task = 0; task < tasks; ++task) {
      const int64_t pages = tile_of(tasks_[size_t(task)]).end_page;
      for (int64_t page = 0; page < pages; page += splits ? kSpanPages : pages)
        spans_.push_back({task, page});
    }
    const auto span_of = [&](const PageSpan& span) {
      CodedTile tile = tile_of(tasks_[size_t(span.task)]);
      tile.first_page = span.page;
      if (splits) tile.end_page = std::min(tile.end_page, span.page + kSpanPages);
      return tile;
    };
    const int64_t scratch_floats = coded_scratch_floats(tile_tokens * group, d);
    const int64_t state_floats = coded_state_floats(tile_tokens * group, d);
    for (auto& scratch : scratch_) reserve(scratch, scratch_floats + state_floats);
    if (splits) reserve(states_, std::ssize(spans_) * state_floats);
    pool_.parallel_for(std::ssize(spans_), [&](int64_t item, int thread) {
      const int64_t after = item + 1;
      CodedTile tile = span_of(spans_[size_t(item)]);
      const CodedTile next = span_of(spans_[size_t(after < std::ssize(spans_) ? after : item)]);
      if (after < std::ssize(spans_)) tile.next = &next;
      tile.scratch = scratch_[size_t(thread)].data();
      tile.state = splits ? states_.data() + item * state_floats : tile.scratch + scratch_floats;
      kernels_.attend_coded(tile);
      if (!splits) kernels_.finish_coded(tile, 1, state_floats);
    });
    if (!splits) return;
    float* state = states_.data();
    for (const AttentionTask& task : tasks_) {
      CodedTile tile = tile_of(task);
      tile.scratch = scratch_[0].data();
      tile.state = state;
      const int64_t spans = divide_up(tile.end_page, kSpanPages);
      kernels_.finish_coded(tile, spans, state_floats);
      state += spans * state_floats;
    }
  }

  /// Tokens of an attention tile over coefficient pages, which are unpacked for every tile: large tiles where
  /// there are enough for all threads. A divisor of kBlock.
  int64_t coded_tile(std::span<const RowRun> runs, int64_t kv_heads) const {
    int64_t rows = 0, tokens = kBlock;
    for (const RowRun& run : runs) rows += run.count;
    while (tokens > kQueryTile && rows / tokens * kv_heads < 4 * threads()) tokens /= 2;
    return tokens;
  }

  static IntLinear product_of(const WeightView& w) {
    return {.cols = w.rows,
            .weights = static_cast<const uint8_t*>(w.data),
            .panel_bytes = w.panel_bytes(),
            .depth = w.padded_cols(),
            .weight_scale = w.scale,
            .weight_sum = w.sum,
            .four_bits = w.dtype == DType::kQ4,
            .groups = w.groups(),
            .zero_groups = w.zero_groups(),
            .group = w.group,
            .weight_group_scale = w.group_scale,
            .weight_zero = w.zero};
  }

  /// Each row's sums of q over the weight's groups: what its zero points are multiplied with.
  const int16_t* sums_of(const QuantMat& in, const WeightView& weight) {
    const int64_t stride = weight.zero_groups();
    reserve(sums_, in.rows * stride);
    for_rows(in.rows, in.cols, [&](int64_t r) {
      kernels_.group_sums(sums_.data() + r * stride, in.q + r * in.stride, weight.groups(), weight.group);
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
    const int64_t sides = kv.kv_heads * 2;
    const auto append = [&](int64_t item, int thread) {
      const auto& [run, page] = pages_[size_t(item / sides)];
      const int64_t head = item / 2 % kv.kv_heads, value = item % 2;
      append_page(kv, value == 0 ? k : v, *run, page, head, value, scratch_[size_t(thread)].data());
    };
    const int64_t items = int64_t(pages_.size()) * sides;
    if (8 * k.rows * sides * d >= kSerialFloats) return pool_.parallel_for(items, append);
    for (int64_t item = 0; item < items; ++item) append(item, 0);
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
    float *tokens = scratch, *transformed = tokens + kBlock * d;
    if (seals && from == begin) {
      kernels_.kv_seal(kv.sealed_part(int32_t(id), head, value), kv.sealed_side(), rows, x.stride,
                       plan.transform, plan.levels, transformed);
      return;
    }
    std::byte* open = kv.open_part(int32_t(id), head, value);
    for (int64_t i = from; i < to; ++i)
      kernels_.kv_write_row(open, kv.open_side(), i - begin, rows + (i - from) * x.stride);
    if (!seals) return;
    kernels_.kv_unpack(tokens, open, kv.open_side(), kBlock);
    kernels_.kv_seal(kv.sealed_part(int32_t(id), head, value), kv.sealed_side(), tokens, d, plan.transform,
                     plan.levels, transformed);
  }

  /// Integers times float weights: the values as floats, the biases after the inverse transform.
  void linear_dequantised(std::span<const Product> products, const QuantMat& in) {
    reserve(floats_, in.rows * in.cols);
    const Mat<float> values = floats_.mat(in.rows, in.cols);
    for_rows(in.rows, in.cols, [&](int64_t r) {
      kernels_.dequantize_row(values.row(r), in.q + r * in.stride, in.cols, in.scale[r], in.offset[r]);
    });
    for (const Product& product : products) {
      const Product unbiased{product.out, product.weight, {}};
      linear({&unbiased, 1}, values);
    }
  }

  /// Few rows: bound by reading the weights, once, as they are stored. Long pieces, since a core's stream of
  /// reads starts anew with each.
  void linear_few(std::span<const Product> products, Mat<const float> in) {
    const bool quantised = is_quantised(products.front().weight.dtype);
    int64_t rows = 0;
    for (const Product& product : products) rows += product.weight.rows;
    constexpr int64_t kTile = 48;  // whole tiles of columns for every number of rows
    product_tasks_.split(products, quantised ? kPanel : round_up(divide_up(rows, 4 * threads()), kTile));
    const int64_t ld = products.front().weight.padded_cols();
    if (quantised)
      for (auto& scratch : scratch_) reserve(scratch, kPanel * ld);
    const auto columns = product_tasks_.columns();
    pool_.parallel_for(int64_t(columns.size()), [&](int64_t item, int thread) {
      const auto& [product, col, cols] = columns[size_t(item)];
      const WeightView& weight = product->weight;
      float* widened = scratch_[size_t(thread)].data();
      if (quantised) kernels_.widen_rows(widened, ld, product_of(weight), col, cols);
      kernels_.linear(product->out.data + col, product->out.stride, in.data, in.stride, in.rows,
                      quantised ? widened : weight_row(weight, col), quantised ? DType::kF32 : weight.dtype,
                      quantised ? ld : weight.cols, cols, weight.cols, bias_at(*product, col));
    });
  }

  /// Many rows: bound by arithmetic. Tiles of rows are packed once, a panel of columns by the task that uses
  /// it.
  void linear_many(std::span<const Product> products, Mat<const float> in) {
    const int64_t k = in.cols, tile_rows = kernels_.tile_rows, tile_cols = kernels_.tile_cols;
    const auto packed_floats = [&](int64_t width) {
      return kernels_.lanes * (divide_up(k, kernels_.lanes) * width + kPackPad);
    };
    const int64_t tile_floats = packed_floats(tile_rows), panel_floats = packed_floats(tile_cols);
    const int64_t tiles = divide_up(in.rows, tile_rows);
    reserve(packed_rows_, tiles * tile_floats);
    pool_.parallel_for(tiles, [&](int64_t tile, int) {
      const int64_t row = tile * tile_rows;
      kernels_.pack_rows(packed_rows_.data() + tile * tile_floats, in.row(row), in.stride,
                         std::min(tile_rows, in.rows - row), k);
    });
    product_tasks_.split(products, tile_cols);
    const auto columns = product_tasks_.columns();
    // Panels alone may be too few for the threads: then the tiles are split, too, and a panel is packed
    // again.
    const int64_t panels = int64_t(columns.size());
    const int64_t wanted = std::min(divide_up(8 * threads(), panels), divide_up(tiles, 8));
    const int64_t span = divide_up(tiles, wanted), spans = divide_up(tiles, span);
    const int64_t ld = products.front().weight.padded_cols();
    for (auto& scratch : scratch_) reserve(scratch, panel_floats + tile_cols * ld);
    pool_.parallel_for(panels * spans, [&](int64_t item, int thread) {
      const auto& [product, col, cols] = columns[size_t(item % panels)];
      float* packed = scratch_[size_t(thread)].data();
      pack_weights(packed, packed + panel_floats, product->weight, col, cols);
      const int64_t first = item / panels * span, last = std::min(first + span, tiles);
      for (int64_t tile = first; tile < last; ++tile) {
        const int64_t row = tile * tile_rows;
        kernels_.linear_packed(product->out.row(row) + col, product->out.stride,
                               std::min(tile_rows, in.rows - row), cols,
                               packed_rows_.data() + tile * tile_floats, packed, k, bias_at(*product, col));
      }
    });
  }

  static const float* bias_at(const Product& product, int64_t col) {
    return product.bias.empty() ? nullptr : product.bias.data() + col;
  }

  /// Rows [col, col + cols) of the weight as a packed panel; `widened` has room for them as floats.
  void pack_weights(float* packed, float* widened, const WeightView& weight, int64_t col, int64_t cols) {
    if (!is_quantised(weight.dtype)) {
      kernels_.pack_cols(packed, weight_row(weight, col), weight.dtype, weight.cols, cols, weight.cols);
      return;
    }
    const int64_t ld = weight.padded_cols();
    kernels_.widen_rows(widened, ld, product_of(weight), col, cols);
    kernels_.pack_cols(packed, widened, DType::kF32, ld, cols, weight.cols);
  }

  /// An operation on rows, which waits for others in a pass.
  void then(const RowStep& step) {
    row_steps_.add(step);
    if (!in_pass_) row_steps_.run();
  }

  template <class Body>
  void for_rows(int64_t rows, int64_t floats_per_row, const Body& body) {
    pool_for_rows(pool_, rows, floats_per_row, [&body](int64_t r, int) { body(r); });
  }

  struct AttentionTask {
    const RowRun* run;
    int64_t position, tokens, head;  // tokens [position, position + tokens) of the run
    /// Where the first token's queries and outputs are.
    int64_t row() const { return run->row + position - run->position; }
  };
  struct PageSpan {
    int64_t task, page;
  };
  struct PageTask {
    const RowRun* run;
    int64_t page;
  };

  const CpuKernels& kernels_;
  ThreadPool pool_;
  std::vector<Buffer<float>> scratch_;    // one a thread
  std::vector<Buffer<uint64_t>> places_;  // one a thread
  Buffer<float> packed_rows_;             // of a product of many rows
  Buffer<float> floats_;                  // activations turned back into floats, for float weights
  Buffer<int16_t> sums_;                  // of activations over groups, for 4-bit weights
  Buffer<float> states_;                  // of attention over spans of pages
  Buffer<int32_t> likeliest_;             // of a part of a row of logits
  ProductTasks product_tasks_;
  RowSteps row_steps_;
  bool in_pass_ = false;
  std::vector<AttentionTask> tasks_;
  std::vector<PageSpan> spans_;
  std::vector<PageTask> pages_;
};

}  // namespace

std::unique_ptr<Ops> make_cpu_ops(const CpuKernels& kernels, int threads) {
  return std::make_unique<CpuOps>(kernels, threads);
}

}  // namespace stamp
