#include "models/weights.h"

#include <set>

#include "kernels/error.h"
#include "kernels/half.h"
#include "models/json.h"

namespace stamp {
namespace {

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (int64_t d : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(d);
  return text + "]";
}

/// Leftovers that transformers ignores, too.
bool is_harmless(const std::string& name, const ModelConfig& config) {
  return name.ends_with(".rotary_emb.inv_freq") || (config.tie_word_embeddings && name == "lm_head.weight");
}

}  // namespace

/// Looks tensors up by name, checks their shapes and remembers which were used.
class WeightLoader {
 public:
  WeightLoader(ModelWeights& weights, const ModelConfig& config) : weights_(weights), config_(config) {}

  WeightView matrix(const std::string& name, int64_t rows, int64_t cols) {
    const TensorInfo& tensor = take(name, {rows, cols});
    return {tensor.data, tensor.weight_dtype(), rows, cols};
  }

  std::span<const float> vector(const std::string& name, int64_t size) {
    const TensorInfo& tensor = take(name, {size});
    std::vector<float>& values = weights_.floats_.emplace_back(size_t(size));
    const DType dtype = tensor.weight_dtype();
    for (size_t i = 0; i < values.size(); ++i) {
      switch (dtype) {
        case DType::kF32:
          values[i] = reinterpret_cast<const float*>(tensor.data)[i];
          break;
        case DType::kF16:
          values[i] = f16_to_f32(reinterpret_cast<const uint16_t*>(tensor.data)[i]);
          break;
        case DType::kBF16:
          values[i] = bf16_to_f32(reinterpret_cast<const uint16_t*>(tensor.data)[i]);
          break;
      }
    }
    return values;
  }

  std::span<const float> bias(bool present, const std::string& name, int64_t size) {
    return present ? vector(name, size) : std::span<const float>();
  }

  void refuse_unused() const {
    for (const auto& [name, tensor] : weights_.files_.tensors())
      if (!used_.contains(name) && !is_harmless(name, config_))
        throw InputError(tensor.file + ": tensor \"" + printable(name) +
                         "\" has no place in the model that config.json describes");
  }

 private:
  const TensorInfo& take(const std::string& name, const std::vector<int64_t>& shape) {
    const TensorInfo& tensor = weights_.files_.at(name);
    if (tensor.shape != shape)
      throw InputError(tensor.file + ": tensor \"" + name + "\" has shape " + shape_text(tensor.shape) +
                       ", config.json asks for " + shape_text(shape));
    used_.insert(name);
    return tensor;
  }

  ModelWeights& weights_;
  const ModelConfig& config_;
  std::set<std::string> used_;
};

ModelWeights ModelWeights::load(const std::filesystem::path& directory, const ModelConfig& config) {
  ModelWeights w;
  w.files_ = Safetensors::open(directory);
  w.file_bytes = w.files_.file_bytes();
  WeightLoader loader(w, config);
  const int64_t hidden = config.hidden_size, mlp = config.intermediate_size;
  const int64_t q_size = config.heads * config.head_dim, kv_size = config.kv_heads * config.head_dim;
  w.embedding = loader.matrix("model.embed_tokens.weight", config.vocab_size, hidden);
  w.lm_head =
      config.tie_word_embeddings ? w.embedding : loader.matrix("lm_head.weight", config.vocab_size, hidden);
  w.norm = loader.vector("model.norm.weight", hidden);
  for (int64_t i = 0; i < config.layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    const std::string attention = layer + "self_attn.", feed_forward = layer + "mlp.";
    w.layers.push_back({
        .input_norm = loader.vector(layer + "input_layernorm.weight", hidden),
        .q = loader.matrix(attention + "q_proj.weight", q_size, hidden),
        .k = loader.matrix(attention + "k_proj.weight", kv_size, hidden),
        .v = loader.matrix(attention + "v_proj.weight", kv_size, hidden),
        .q_bias = loader.bias(config.attention_bias, attention + "q_proj.bias", q_size),
        .k_bias = loader.bias(config.attention_bias, attention + "k_proj.bias", kv_size),
        .v_bias = loader.bias(config.attention_bias, attention + "v_proj.bias", kv_size),
        .o = loader.matrix(attention + "o_proj.weight", hidden, q_size),
        .o_bias = loader.bias(config.attention_bias, attention + "o_proj.bias", hidden),
        .post_attention_norm = loader.vector(layer + "post_attention_layernorm.weight", hidden),
        .gate = loader.matrix(feed_forward + "gate_proj.weight", mlp, hidden),
        .up = loader.matrix(feed_forward + "up_proj.weight", mlp, hidden),
        .gate_bias = loader.bias(config.mlp_bias, feed_forward + "gate_proj.bias", mlp),
        .up_bias = loader.bias(config.mlp_bias, feed_forward + "up_proj.bias", mlp),
        .down = loader.matrix(feed_forward + "down_proj.weight", hidden, mlp),
        .down_bias = loader.bias(config.mlp_bias, feed_forward + "down_proj.bias", hidden),
    });
  }
  loader.refuse_unused();
  return w;
}

}  // namespace stamp
