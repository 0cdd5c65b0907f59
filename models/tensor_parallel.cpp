#include "models/tensor_parallel.h"

#include <fmt/format.h>

#include <numeric>

#include "kernels/error.h"
#include "kernels/pack.h"

namespace stamp {
namespace {

/// Output and input channels that must stay together.
int64_t output_unit(const WeightView& w) { return is_quantised(w.dtype) ? kPanel : 1; }
int64_t input_unit(const WeightView& w) { return is_quantised(w.dtype) ? slice_unit(w) : 1; }

std::span<const float> part_of(std::span<const float> bias, int64_t first, int64_t count) {
  return bias.empty() ? bias : bias.subspan(size_t(first), size_t(count));
}

}  // namespace

std::vector<Shard> plan_shards(const ModelConfig& config, const ModelWeights& weights, int64_t shards) {
  const auto refuse = [&](const std::string& what) {
    throw InputError(fmt::format("the model cannot be cut into {} shards: {}", shards, what));
  };
  if (shards < 1) refuse("at least one is needed");
  if (config.kv_heads % shards != 0)
    refuse(fmt::format("its {} KV heads cannot be dealt out evenly", config.kv_heads));
  const int64_t heads = config.heads / shards, kv_heads = config.kv_heads / shards;
  const int64_t r4 = weights.down_rotation.empty() ? 1 : weights.down_rotation.view().block;
  int64_t attended = 1, keys = 1, gated = 1;  // units of o's inputs, of k's and v's outputs, of down's inputs
  for (const LayerWeights& layer : weights.layers) {
    attended = std::lcm(attended, std::lcm(input_unit(layer.o), output_unit(layer.q)));
    keys = std::lcm(keys, std::lcm(output_unit(layer.k), output_unit(layer.v)));
    gated = std::lcm(gated, std::lcm(input_unit(layer.down), output_unit(layer.gate)));
    gated = std::lcm(gated, output_unit(layer.up));
  }
  const auto check_heads = [&](const char* what, int64_t count, int64_t unit) {
    if (shards > 1 && count * config.head_dim % unit != 0)
      refuse(fmt::format("{} {} of {} channels are no multiple of {}, which quantised weights keep together",
                         count, what, config.head_dim, unit));
  };
  check_heads("query heads", heads, attended);
  check_heads("KV heads", kv_heads, keys);
  const int64_t unit = std::lcm(r4, gated), units = divide_up(config.intermediate_size, unit);
  if (units < shards)
    refuse(r4 > gated
               ? fmt::format("the rotation in front of down (R4) turns its {} input channels in {} "
                             "block{} of {}; use a recipe with \"down\": false",
                             config.intermediate_size, units, units == 1 ? "" : "s", r4)
               : fmt::format("{} intermediate channels in units of {}", config.intermediate_size, unit));
  std::vector<Shard> all;
  for (int64_t i = 0; i < shards; ++i) {
    const int64_t first = units * i / shards * unit;
    const int64_t last = std::min(units * (i + 1) / shards * unit, config.intermediate_size);
    all.push_back({.index = i,
                   .shards = shards,
                   .head = i * heads,
                   .heads = heads,
                   .kv_head = i * kv_heads,
                   .kv_heads = kv_heads,
                   .intermediate = first,
                   .intermediate_size = last - first});
  }
  return all;
}

ModelConfig shard_config(const ModelConfig& config, const Shard& shard) {
  ModelConfig own = config;
  own.heads = shard.heads;
  own.kv_heads = shard.kv_heads;
  own.intermediate_size = shard.intermediate_size;
  return own;
}

ModelWeights shard_weights(const ModelConfig& config, const ModelWeights& weights, const Shard& s) {
  ModelWeights own;
  own.embedding = weights.embedding;
  own.lm_head = weights.lm_head;
  own.norm = weights.norm;
  own.residual_rotation = weights.residual_rotation;
  own.head_rotation = weights.head_rotation;
  if (!weights.down_rotation.empty())
    own.down_rotation = weights.down_rotation.of_channels(s.intermediate_size);
  const int64_t d = config.head_dim, q = s.head * d, q_size = s.heads * d;
  const int64_t kv = s.kv_head * d, kv_size = s.kv_heads * d;
  const int64_t mlp = s.intermediate, mlp_size = s.intermediate_size;
  for (const LayerWeights& layer : weights.layers) {
    const auto rows = [&](const WeightView& w, int64_t first, int64_t count) {
      return own.own(slice_weight(w, first, count, 0, w.cols));
    };
    const auto cols = [&](const WeightView& w, int64_t first, int64_t count) {
      return own.own(slice_weight(w, 0, w.rows, first, count));
    };
    LayerWeights part = layer;  // norms are everywhere
    part.q = rows(layer.q, q, q_size);
    part.k = rows(layer.k, kv, kv_size);
    part.v = rows(layer.v, kv, kv_size);
    part.q_bias = part_of(layer.q_bias, q, q_size);
    part.k_bias = part_of(layer.k_bias, kv, kv_size);
    part.v_bias = part_of(layer.v_bias, kv, kv_size);
    part.o = cols(layer.o, q, q_size);
    part.gate = rows(layer.gate, mlp, mlp_size);
    part.up = rows(layer.up, mlp, mlp_size);
    part.gate_bias = part_of(layer.gate_bias, mlp, mlp_size);
    part.up_bias = part_of(layer.up_bias, mlp, mlp_size);
    part.down = cols(layer.down, mlp, mlp_size);
    if (s.index > 0) part.o_bias = part.down_bias = {};
    own.layers.push_back(part);
  }
  return own;
}

}  // namespace stamp
