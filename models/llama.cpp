#include "models/llama.h"

#include <algorithm>
#include <cmath>
#include <optional>

namespace stamp {
Llama::Llama(const ModelConfig& config, const ModelWeights& weights, const Recipe& recipe, Ops& ops,
             int64_t max_rows)
    : config_(config),
      weights_(weights),
      recipe_(recipe),
      ops_(ops),
      rope_(config),
      max_rows_(max_rows),
      residual_(max_rows * config.hidden_size, ops.memory()),
      normed_(max_rows *
                  std::max(spread_stride(config.hidden_size), spread_stride(config.heads * config.head_dim)),
              ops.memory()),
      q_(normed_.size(), ops.memory()),
      k_(max_rows * spread_stride(config.kv_heads * config.head_dim), ops.memory()),
      v_(k_.size(), ops.memory()),
      gate_(max_rows * spread_stride(config.intermediate_size), ops.memory()),
      up_(gate_.size(), ops.memory()),
      cos_(max_rows * config.head_dim / 2),
      sin_(max_rows * config.head_dim / 2) {
  if (!recipe.activations.quantised) return;
  integers_ =
      Buffer<uint8_t>(max_rows * round_up(config.widest_input(), QuantMat::kQuantAlign), ops.memory());
  scale_ = Buffer<float>(max_rows, ops.memory());
  offset_ = Buffer<float>(max_rows, ops.memory());
}

void Llama::forward(const Batch& batch, const KvPages& kv, Mat<float> logits) {
  begin(batch);
  forward_from(0, batch, kv, logits);
}

void Llama::forward_from(int64_t first, const Batch& batch, const KvPages& kv, Mat<float> logits) {
  std::optional<OpsPass> pass;
  if (!observer_.input && !observer_.cache) pass.emplace(ops_);
  for (int64_t i = first; i < int64_t(weights_.layers.size()); ++i)
    forward_layer(weights_.layers[size_t(i)], i, kv.layer(i), batch);
  if (!batch.logit_rows.empty()) head(batch, logits);
}

void Llama::begin(const Batch& batch) {
  const int64_t rows = int64_t(batch.tokens.size()), half = config_.head_dim / 2;
  embed(residual(rows), batch.tokens);
  rope_.angles(cos_.mat(rows, half), sin_.mat(rows, half), batch.runs);
  // Every plan that is not plain codes the same tiles; an input's own plan may be one where the recipe's is
  // plain.
  split_tiles(batch.runs, BitPlan{.transform = SeqTransform::kHaar}, coded_tiles_);
  split_tiles(batch.runs, BitPlan{}, plain_tiles_);
}

void Llama::forward_layer(const LayerWeights& layer, int64_t index, const KvPages& kv, const Batch& batch) {
  const int64_t rows = int64_t(batch.tokens.size()), hidden = config_.hidden_size, d = config_.head_dim;
  const float eps = config_.rms_norm_eps, scale = 1.0f / std::sqrt(float(d));
  const Mat<float> x = residual(rows), normed = rows_of(normed_, rows, hidden),
                   projected = rows_of(q_, rows, hidden);
  const Mat<float> q = rows_of(q_, rows, config_.heads * d),
                   attended = rows_of(normed_, rows, config_.heads * d);
  const Mat<float> k = rows_of(k_, rows, config_.kv_heads * d), v = rows_of(v_, rows, config_.kv_heads * d);
  const Mat<float> gate = rows_of(gate_, rows, config_.intermediate_size),
                   up = rows_of(up_, rows, config_.intermediate_size);
  const Mat<float> cos = cos_.mat(rows, d / 2), sin = sin_.mat(rows, d / 2);

  // x += o(attention(rope(q), rope(k), v)),  q, k, v = linear(norm(x))
  ops_.rms_norm(normed, x, layer.input_norm, eps);
  const Input attention_input = input(normed, index, Site::kAttention);
  linear({{q, layer.q, layer.q_bias}, {k, layer.k, layer.k_bias}, {v, layer.v, layer.v_bias}},
         attention_input);
  ops_.rope(q, cos, sin);
  ops_.rope(k, cos, sin);
  rotate(q, weights_.head_rotation);
  rotate(k, weights_.head_rotation);
  if (observer_.cache) observer_.cache(index, k, v);
  ops_.append_kv(kv, k, v, batch.runs);
  ops_.attention(attended, q, kv, batch.runs, scale);
  linear({{projected, layer.o, layer.o_bias}}, input(attended, index, Site::kAttended));
  add_to_residual(x, projected);

  // x += down(silu(gate(y)) * up(y)),  y = norm(x)
  ops_.rms_norm(normed, x, layer.post_attention_norm, eps);
  const Input feed_forward_input = input(normed, index, Site::kFeedForward);
  linear({{gate, layer.gate, layer.gate_bias}, {up, layer.up, layer.up_bias}}, feed_forward_input);
  ops_.silu_mul(gate, up);
  rotate(gate, weights_.down_rotation);
  linear({{projected, layer.down, layer.down_bias}}, input(gate, index, Site::kGated));
  add_to_residual(x, projected);
}

/// logits = lm_head(norm(x)), for the rows somebody asked for. The norm's gains do not commute with the
/// residual rotation, so they are applied between turning back and turning again.
void Llama::head(const Batch& batch, Mat<float> logits) {
  const Mat<float> x = residual(int64_t(batch.tokens.size()));
  const Mat<float> normed = rows_of(normed_, int64_t(batch.logit_rows.size()), config_.hidden_size);
  ops_.gather(normed, x, batch.logit_rows);
  rotate(normed, weights_.residual_rotation, true);
  ops_.rms_norm(normed, normed, weights_.norm, config_.rms_norm_eps);
  rotate(normed, weights_.residual_rotation);
  head_tiles_.clear();
  for (int64_t row = 0; row < normed.rows; row += kBlock)
    head_tiles_.push_back({row, std::min(kBlock, normed.rows - row), false});
  const bool integers = recipe_.activations.quantised && is_quantised(weights_.lm_head.dtype);
  linear({{logits, weights_.lm_head, {}}},
         integers ? quantised(normed, BitPlan{}, head_tiles_) : Input{normed});
}

Llama::Input Llama::input(Mat<const float> values, int64_t layer, Site site) {
  Input in{values};
  if (recipe_.activations.quantised) {
    const BitPlan plan = recipe_.plan_of(layer, site);
    in = quantised(values, plan, plan.is_plain() ? plain_tiles_ : coded_tiles_);
  }
  if (observer_.input) observer_.input(layer, site, in);
  return in;
}

Llama::Input Llama::quantised(Mat<const float> values, const BitPlan& plan, std::span<const RowTile> tiles) {
  quantised_ = {.q = integers_.data(),
                .rows = values.rows,
                .cols = values.cols,
                .stride = round_up(values.cols, QuantMat::kQuantAlign),
                .scale = scale_.data(),
                .offset = offset_.data(),
                .plan = plan,
                .tiles = tiles};
  ops_.quantize(quantised_, values);
  return {values, &quantised_};
}

void Llama::linear(std::initializer_list<Product> products, const Input& in) {
  if (in.quantised != nullptr) ops_.linear({products.begin(), products.size()}, *in.quantised);
  else ops_.linear({products.begin(), products.size()}, in.values);
}

void Llama::add_to_residual(Mat<float> x, Mat<float> product) {
  if (shards_ != nullptr) shards_->all_reduce(product);
  ops_.add(x, product);
}

void Llama::embed(Mat<float> x, std::span<const int32_t> tokens) {
  if (!weights_.embedding_stays_in_file()) return ops_.embed(x, tokens, weights_.embedding);
  for (int64_t r = 0; r < x.rows; ++r) {
    const auto [table, row] = weights_.read_embedding(tokens[size_t(r)], panel_);
    ops_.embed(x.slice(r, 1), {&row, 1}, table);
  }
}

/// A device's kernels want rows without gaps.
Mat<float> Llama::rows_of(Buffer<float>& buffer, int64_t rows, int64_t cols) {
  return {buffer.data(), rows, cols, &ops_.memory() == &host_memory() ? spread_stride(cols) : cols};
}

void Llama::rotate(Mat<float> x, const Rotation& rotation, bool inverse) {
  if (!rotation.empty()) ops_.rotate(x, rotation.view(), inverse);
}

}  // namespace stamp
