#include "models/llama.h"

#include <cmath>

namespace stamp {

Llama::Llama(const ModelConfig& config, const ModelWeights& weights, Ops& ops, int64_t max_rows)
    : config_(config),
      weights_(weights),
      ops_(ops),
      rope_(config),
      max_rows_(max_rows),
      residual_(max_rows * config.hidden_size),
      normed_(max_rows * config.hidden_size),
      q_(max_rows * config.heads * config.head_dim),
      k_(max_rows * config.kv_heads * config.head_dim),
      v_(max_rows * config.kv_heads * config.head_dim),
      attended_(max_rows * config.heads * config.head_dim),
      projected_(max_rows * config.hidden_size),
      gate_(max_rows * config.intermediate_size),
      up_(max_rows * config.intermediate_size),
      cos_(max_rows * config.head_dim / 2),
      sin_(max_rows * config.head_dim / 2) {}

void Llama::forward(const Batch& batch, const KvPages& kv, Mat<float> logits) {
  const int64_t rows = int64_t(batch.tokens.size());
  const Mat<float> x = residual_.mat(rows, config_.hidden_size);  // [rows, hidden]
  ops_.embed(x, batch.tokens, weights_.embedding);
  rope_.angles(cos_.mat(rows, config_.head_dim / 2), sin_.mat(rows, config_.head_dim / 2), batch.runs);
  for (size_t i = 0; i < weights_.layers.size(); ++i)
    forward_layer(weights_.layers[i], kv.layer(int64_t(i)), batch.runs, rows);

  // Only the rows somebody asked for go through the head: [logit_rows, vocab].
  for (size_t i = 0; i < batch.logit_rows.size(); ++i) {
    const Mat<float> normed = normed_.mat(rows, config_.hidden_size).slice(int64_t(i), 1);
    ops_.rms_norm(normed, x.slice(batch.logit_rows[i], 1), weights_.norm, config_.rms_norm_eps);
  }
  const int64_t wanted = int64_t(batch.logit_rows.size());
  if (wanted > 0) ops_.linear(logits, normed_.mat(wanted, config_.hidden_size), weights_.lm_head, {});
}

void Llama::forward_layer(const LayerWeights& layer, const KvPages& kv, std::span<const RowRun> runs,
                          int64_t rows) {
  const int64_t hidden = config_.hidden_size, d = config_.head_dim;
  const float eps = config_.rms_norm_eps, scale = 1.0f / std::sqrt(float(d));
  const Mat<float> x = residual_.mat(rows, hidden), normed = normed_.mat(rows, hidden);
  const Mat<float> projected = projected_.mat(rows, hidden);
  const Mat<float> q = q_.mat(rows, config_.heads * d), attended = attended_.mat(rows, config_.heads * d);
  const Mat<float> k = k_.mat(rows, config_.kv_heads * d), v = v_.mat(rows, config_.kv_heads * d);
  const Mat<float> gate = gate_.mat(rows, config_.intermediate_size),
                   up = up_.mat(rows, config_.intermediate_size);
  const Mat<float> cos = cos_.mat(rows, d / 2), sin = sin_.mat(rows, d / 2);

  // x += o(attention(rope(q), rope(k), v)),  q, k, v = linear(norm(x))
  ops_.rms_norm(normed, x, layer.input_norm, eps);
  ops_.linear(q, normed, layer.q, layer.q_bias);
  ops_.linear(k, normed, layer.k, layer.k_bias);
  ops_.linear(v, normed, layer.v, layer.v_bias);
  ops_.rope(q, cos, sin);
  ops_.rope(k, cos, sin);
  ops_.append_kv(kv, k, v, runs);
  ops_.attention(attended, q, kv, runs, scale);
  ops_.linear(projected, attended, layer.o, layer.o_bias);
  ops_.add(x, projected);

  // x += down(silu(gate(y)) * up(y)),  y = norm(x)
  ops_.rms_norm(normed, x, layer.post_attention_norm, eps);
  ops_.linear(gate, normed, layer.gate, layer.gate_bias);
  ops_.linear(up, normed, layer.up, layer.up_bias);
  ops_.silu_mul(gate, up);
  ops_.linear(projected, gate, layer.down, layer.down_bias);
  ops_.add(x, projected);
}

}  // namespace stamp
