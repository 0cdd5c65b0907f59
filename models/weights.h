#pragma once
#include <cstdint>
#include <deque>
#include <filesystem>
#include <span>
#include <utility>
#include <vector>

#include "kernels/pack.h"
#include "kernels/views.h"
#include "models/config.h"
#include "models/rotation.h"
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

/// The weights of a model by role, and the memory behind them: the mapped files, small floats (norms,
/// biases), and what preparation made. Move-only; views stay valid across moves.
struct ModelWeights {
  WeightView embedding, lm_head;  // [vocab, hidden]; the same if tied
  std::span<const float> norm;    // [hidden]
  std::vector<LayerWeights> layers;
  // What the weights expect of the forward pass (design section 3); empty: nothing.
  Rotation residual_rotation;  // R1: the residual stream is rotated; the head turns back, applies `norm`,
                               // turns again
  Rotation head_rotation;      // R3: queries and keys after RoPE
  Rotation down_rotation;      // R4: the input of down
  uint64_t file_bytes = 0;

  /// A directory's weights as they are stored. Matrices are views of the mapped files, nothing is copied but
  /// the small norms and biases. Throws InputError naming tensor and file if one is missing, has another
  /// shape than the config says, or is a tensor that this engine would have to ignore.
  static ModelWeights load(const std::filesystem::path& directory, const ModelConfig& config);

  /// See MappedFile: views stay valid, and may be read meanwhile. An embedding that is not the head, too,
  /// stays in the file: a step reads few of its rows.
  void use_huge_pages(bool copies, const std::stop_token& stop) { files_.use_huge_pages(copies, stop); }
  bool embedding_stays_in_file() const { return !files_.tensors().empty() && lm_head.data != embedding.data; }
  /// Of such an embedding, the panel that holds the row of `id` (of float types, that row), copied into
  /// `bytes`, and the row's place in it. The file's pages do not become resident, of which the system maps up
  /// to 2 MiB for each that is touched.
  std::pair<WeightView, int32_t> read_embedding(int32_t id, Buffer<std::byte>& bytes) const;

  /// Copies everything to a device's memory, where the views then point, and lets go of the host's.
  void move_to(Memory& memory);

  std::span<float> own(std::vector<float> values) { return floats_.emplace_back(std::move(values)); }
  WeightView own(PackedWeight weight) { return packed_.emplace_back(std::move(weight)).view; }
  /// Bytes of all matrices as they are used.
  int64_t matrix_bytes() const;

 private:
  friend class WeightLoader;
  Safetensors files_;
  std::deque<std::vector<float>> floats_;
  std::deque<PackedWeight> packed_;
  std::vector<Buffer<std::byte>> moved_;
};

/// Every matrix of a layer with its name in a file, in a fixed order; Layer may be const.
template <class Layer, class Visit>
void for_each_matrix(Layer& layer, const Visit& visit) {
  visit("self_attn.q_proj", layer.q);
  visit("self_attn.k_proj", layer.k);
  visit("self_attn.v_proj", layer.v);
  visit("self_attn.o_proj", layer.o);
  visit("mlp.gate_proj", layer.gate);
  visit("mlp.up_proj", layer.up);
  visit("mlp.down_proj", layer.down);
}

/// Every norm and bias of a layer, those that are absent included.
template <class Visit>
void for_each_vector(LayerWeights& layer, const Visit& visit) {
  for (auto* vector : {&layer.input_norm, &layer.q_bias, &layer.k_bias, &layer.v_bias, &layer.o_bias,
                       &layer.post_attention_norm, &layer.gate_bias, &layer.up_bias, &layer.down_bias})
    visit(*vector);
}

}  // namespace stamp
