#include "models/weights.h"

#include <set>

#include "kernels/error.h"
#include "kernels/half.h"
#include "models/json.h"
#include "models/recipe.h"

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
  WeightLoader(ModelWeights& weights, const ModelConfig& config, const Recipe& recipe)
      : weights_(weights), config_(config), recipe_(recipe) {}

  WeightView matrix(const std::string& name, int64_t rows, int64_t cols) {
    const TensorInfo& tensor = take(name, {rows, cols});
    return {tensor.data, tensor.weight_dtype(), rows, cols};
  }

  /// NAME.weight, or its panels.
  WeightView linear(const std::string& name, int64_t rows, int64_t cols, int bits) {
    if (bits == 16) return matrix(name + ".weight", rows, cols);
    WeightView w{.dtype = bits == 4 ? DType::kQ4 : DType::kQ8,
                 .rows = rows,
                 .cols = cols,
                 .group = bits == 4 ? recipe_.weights.group : 0};
    const TensorInfo& packed = take(name + ".weight_packed", {w.panels(), w.panel_bytes()}, "U8");
    if (cols > kMaxQuantisedCols)
      throw InputError(packed.file + ": tensor \"" + name + ".weight_packed\" has " + std::to_string(cols) +
                       " input channels, at most " + std::to_string(kMaxQuantisedCols) + " are supported");
    w.data = packed.data;
    w.scale = reinterpret_cast<const float*>(take(name + ".weight_scale", {w.panels(), kPanel}, "F32").data);
    w.sum = reinterpret_cast<const int32_t*>(take(name + ".weight_sum", {w.panels(), kPanel}, "I32").data);
    if (bits != 4) return w;
    w.group_scale = reinterpret_cast<const uint8_t*>(
        take(name + ".weight_group_scale", {w.panels(), w.groups(), kPanel}, "U8").data);
    w.zero = reinterpret_cast<const uint8_t*>(
        take(name + ".weight_zero_point", {w.panels(), w.zero_groups(), kPanel}, "U8").data);
    return w;
  }

  Rotation residual_rotation(int64_t dim) {
    const Rotation shape = Rotation::hadamard(dim);
    const int64_t blocks = dim / shape.view().block;
    const auto signs = vector("residual_rotation.signs", dim);
    const auto mix = blocks > 1 ? vector("residual_rotation.mix", blocks * blocks) : std::span<const float>();
    return Rotation::restore(dim, {signs.begin(), signs.end()}, {mix.begin(), mix.end()});
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
        default:
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
  const TensorInfo& take(const std::string& name, const std::vector<int64_t>& shape, std::string_view dtype) {
    const TensorInfo& tensor = take(name, shape);
    if (tensor.dtype != dtype)
      throw InputError(tensor.file + ": tensor \"" + name + "\" has dtype " + tensor.dtype + ", must be " +
                       std::string(dtype));
    return tensor;
  }

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
  const Recipe& recipe_;
  std::set<std::string> used_;
};

ModelWeights ModelWeights::load(const std::filesystem::path& directory, const ModelConfig& config) {
  ModelWeights w;
  w.files_ = Safetensors::open(directory);
  w.file_bytes = w.files_.file_bytes();
  const Recipe stored = config.stored_recipe.empty()
                            ? Recipe()
                            : Recipe::parse(config.stored_recipe, (directory / "config.json").string());
  WeightLoader loader(w, config, stored);
  const int bits = stored.weights.bits, value_bits = stored.weights.value_bits,
            head_bits = stored.weights.head_bits;
  const int64_t hidden = config.hidden_size, mlp = config.intermediate_size;
  const int64_t q_size = config.heads * config.head_dim, kv_size = config.kv_heads * config.head_dim;
  w.embedding = loader.linear("model.embed_tokens", config.vocab_size, hidden, head_bits);
  w.lm_head = config.tie_word_embeddings ? w.embedding
                                         : loader.linear("lm_head", config.vocab_size, hidden, head_bits);
  w.norm = loader.vector("model.norm.weight", hidden);
  for (int64_t i = 0; i < config.layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    const std::string attention = layer + "self_attn.", feed_forward = layer + "mlp.";
    w.layers.push_back({
        .input_norm = loader.vector(layer + "input_layernorm.weight", hidden),
        .q = loader.linear(attention + "q_proj", q_size, hidden, bits),
        .k = loader.linear(attention + "k_proj", kv_size, hidden, bits),
        .v = loader.linear(attention + "v_proj", kv_size, hidden, value_bits),
        .q_bias = loader.bias(config.attention_bias, attention + "q_proj.bias", q_size),
        .k_bias = loader.bias(config.attention_bias, attention + "k_proj.bias", kv_size),
        .v_bias = loader.bias(config.attention_bias, attention + "v_proj.bias", kv_size),
        .o = loader.linear(attention + "o_proj", hidden, q_size, bits),
        .o_bias = loader.bias(config.attention_bias, attention + "o_proj.bias", hidden),
        .post_attention_norm = loader.vector(layer + "post_attention_layernorm.weight", hidden),
        .gate = loader.linear(feed_forward + "gate_proj", mlp, hidden, bits),
        .up = loader.linear(feed_forward + "up_proj", mlp, hidden, bits),
        .gate_bias = loader.bias(config.mlp_bias, feed_forward + "gate_proj.bias", mlp),
        .up_bias = loader.bias(config.mlp_bias, feed_forward + "up_proj.bias", mlp),
        .down = loader.linear(feed_forward + "down_proj", hidden, mlp, bits),
        .down_bias = loader.bias(config.mlp_bias, feed_forward + "down_proj.bias", hidden),
    });
  }
  if (stored.rotation.residual) w.residual_rotation = loader.residual_rotation(hidden);
  if (stored.rotation.head) w.head_rotation = Rotation::hadamard(config.head_dim);
  if (stored.rotation.down) w.down_rotation = Rotation::hadamard(mlp);
  loader.refuse_unused();
  if (w.embedding_stays_in_file())
    w.files_.leave_mapped(
        {static_cast<const std::byte*>(w.embedding.data), size_t(w.embedding.data_bytes())});
  return w;
}

std::pair<WeightView, int32_t> ModelWeights::read_embedding(int32_t id, Buffer<std::byte>& bytes) const {
  const int64_t together = is_quantised(embedding.dtype) ? kPanel : 1, panel = id / together;
  WeightView part = embedding;
  part.rows = together;
  const int64_t size = part.data_bytes();
  if (bytes.size() != size) bytes = Buffer<std::byte>(size);
  files_.copy(static_cast<const std::byte*>(embedding.data) + panel * size, bytes.span());
  part.data = bytes.data();
  part.scale += panel * part.row_parameters();
  part.sum += panel * part.row_parameters();
  part.group_scale += panel * part.group_parameters();
  part.zero += panel * part.zero_parameters();
  return {part, int32_t(id % together)};
}

void ModelWeights::move_to(Memory& memory) {
  const auto move = [&]<class T>(const T*& data, int64_t count) {
    if (data == nullptr || count == 0) return;
    Buffer<std::byte>& copy = moved_.emplace_back(count * int64_t{sizeof(T)}, memory);
    memory.write(copy.data(), data, copy.size());
    data = reinterpret_cast<const T*>(copy.data());
  };
  const auto move_matrix = [&](WeightView& w) {
    auto bytes = static_cast<const std::byte*>(w.data);
    move(bytes, w.data_bytes());
    w.data = bytes;
    move(w.scale, w.row_parameters());
    move(w.sum, w.row_parameters());
    move(w.group_scale, w.group_parameters());
    move(w.zero, w.zero_parameters());
  };
  const auto move_vector = [&](std::span<const float>& values) {
    const float* data = values.data();
    move(data, int64_t(values.size()));
    values = {data, values.size()};
  };
  const bool tied = lm_head.data == embedding.data;
  move_matrix(embedding);
  if (tied) lm_head = embedding;
  else move_matrix(lm_head);
  move_vector(norm);
  for (LayerWeights& layer : layers) {
    for_each_matrix(layer, [&](const char*, WeightView& w) { move_matrix(w); });
    for_each_vector(layer, move_vector);
  }
  files_ = {};
  floats_.clear();
  packed_.clear();
}

int64_t ModelWeights::matrix_bytes() const {
  int64_t bytes = embedding.bytes() + (lm_head.data != embedding.data ? lm_head.bytes() : 0);
  for (const LayerWeights& layer : layers)
    for_each_matrix(layer, [&](const char*, const WeightView& w) { bytes += w.bytes(); });
  return bytes;
}

}  // namespace stamp
