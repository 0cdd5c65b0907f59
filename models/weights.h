#pragma once
#include <cstdint>
#include <deque>
#include <filesystem>
#include <span>
#include <vector>

#include "kernels/views.h"
#include "models/config.h"
#include "models/safetensors.h"

namespace stamp {

/// One decoder layer. Linear weights are [out, in] as stored; norms and biases are float32. Absent biases are
/// empty.
struct LayerWeights {
  std::span<const float> input_norm;  // [hidden]
  WeightView q, k, v;                 // [heads * head_dim | kv_heads * head_dim, hidden]
  std::span<const float> q_bias, k_bias, v_bias;
  WeightView o;  // [hidden, heads * head_dim]
  std::span<const float> o_bias;
  std::span<const float> post_attention_norm;  // [hidden]
  WeightView gate, up;                         // [intermediate, hidden]
  std::span<const float> gate_bias, up_bias;
  WeightView down;  // [hidden, intermediate]
  std::span<const float> down_bias;
};

/// The weights of a model directory by role. Matrices are views of the mapped files, nothing is copied but
/// the small norms and biases. Move-only; views stay valid across moves.
struct ModelWeights {
  WeightView embedding, lm_head;  // [vocab, hidden]; the same if tied
  std::span<const float> norm;    // [hidden]
  std::vector<LayerWeights> layers;
  uint64_t file_bytes = 0;

  /// Throws InputError naming tensor and file if one is missing, has another shape than the config says, or
  /// is a tensor that this engine would have to ignore.
  static ModelWeights load(const std::filesystem::path& directory, const ModelConfig& config);

 private:
  friend class WeightLoader;
  Safetensors files_;
  std::deque<std::vector<float>> floats_;
};

}  // namespace stamp
