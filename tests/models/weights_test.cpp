// Loading of well-formed weights: storage types, shards, biases, tied heads. Malformed files have tests of
// their own.
#include "models/weights.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/half.h"
#include "tests/golden/golden.h"
#include "tests/tiny_model.h"

namespace stamp {
namespace {

/// tests/prepare_data.py's numbers, written a second time: uniform in [-1, 1) from splitmix64, seeded with
/// FNV-1a of "MODEL/TENSOR".
float uniform(const std::string& name, uint64_t index) {
  uint64_t z = 0xcbf29ce484222325u;
  for (unsigned char byte : name) z = (z ^ byte) * 0x100000001b3u;
  z += (index + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  z ^= z >> 31;
  return float(int64_t(z >> 40) - (1 << 23)) * 0x1p-23f;
}

float element(const WeightView& w, int64_t index) {
  if (w.dtype == DType::kF32) return static_cast<const float*>(w.data)[index];
  const uint16_t bits = static_cast<const uint16_t*>(w.data)[index];
  return w.dtype == DType::kF16 ? f16_to_f32(bits) : bf16_to_f32(bits);
}

/// Half a unit in the last place of the storage type, relative, with room for the float32 product before it.
double rounding(DType dtype) {
  return dtype == DType::kF32 ? 1e-7 : dtype == DType::kF16 ? 0x1.01p-11 : 0x1.01p-8;
}

void expect_matrix(const WeightView& w, const std::string& name, int64_t rows, int64_t cols, double scale) {
  SCOPED_TRACE(name);
  ASSERT_EQ(w.rows, rows);
  ASSERT_EQ(w.cols, cols);
  for (int64_t i = 0; i < rows * cols; ++i) {
    const double truth = scale * double(uniform(name, uint64_t(i)));
    // 2^-25 is half the step of F16's subnormals.
    ASSERT_NEAR(element(w, i), truth, std::fabs(truth) * rounding(w.dtype) + 0x1p-25) << "element " << i;
  }
}

void expect_vector(std::span<const float> v, const std::string& name, int64_t size, double offset,
                   double scale) {
  SCOPED_TRACE(name);
  ASSERT_EQ(int64_t(v.size()), size);
  for (int64_t i = 0; i < size; ++i)
    ASSERT_NEAR(v[size_t(i)], offset + scale * double(uniform(name, uint64_t(i))), 0x1.01p-8 * (offset + 1))
        << "element " << i;
}

ModelWeights load(const std::string& name, ModelConfig& config) {
  config = ModelConfig::load(golden::kTinyModels / name);
  return ModelWeights::load(golden::kTinyModels / name, config);
}

TEST(ModelWeights, EveryTensorOfEveryVariantHasItsShapeAndValues) {
  for (const auto& entry : std::filesystem::directory_iterator(golden::kTinyModels)) {
    const std::string model = entry.path().filename();
    ModelConfig c;
    ModelWeights loaded = load(model, c);
    const ModelWeights w = std::move(loaded);  // views stay valid
    const int64_t hidden = c.hidden_size, mlp = c.intermediate_size, q = c.heads * c.head_dim,
                  kv = c.kv_heads * c.head_dim;
    const auto scale = [](double gain, int64_t inputs) { return gain * std::sqrt(3.0 / double(inputs)); };
    expect_matrix(w.embedding, model + "/model.embed_tokens.weight", c.vocab_size, hidden, 1);
    if (!c.tie_word_embeddings)
      expect_matrix(w.lm_head, model + "/lm_head.weight", c.vocab_size, hidden, scale(3, hidden));
    expect_vector(w.norm, model + "/model.norm.weight", hidden, 1, 0.4);
    ASSERT_EQ(int64_t(w.layers.size()), c.layers) << model;
    for (size_t i = 0; i < w.layers.size(); ++i) {
      const LayerWeights& l = w.layers[i];
      const std::string layer = model + "/model.layers." + std::to_string(i) + ".";
      const std::string attention = layer + "self_attn.", feed_forward = layer + "mlp.";
      expect_vector(l.input_norm, layer + "input_layernorm.weight", hidden, 1, 0.4);
      expect_vector(l.post_attention_norm, layer + "post_attention_layernorm.weight", hidden, 1, 0.4);
      expect_matrix(l.q, attention + "q_proj.weight", q, hidden, scale(1.4, hidden));
      expect_matrix(l.k, attention + "k_proj.weight", kv, hidden, scale(1.4, hidden));
      expect_matrix(l.v, attention + "v_proj.weight", kv, hidden, scale(1, hidden));
      expect_matrix(l.o, attention + "o_proj.weight", hidden, q, scale(1, q));
      expect_matrix(l.gate, feed_forward + "gate_proj.weight", mlp, hidden, scale(1, hidden));
      expect_matrix(l.up, feed_forward + "up_proj.weight", mlp, hidden, scale(1, hidden));
      expect_matrix(l.down, feed_forward + "down_proj.weight", hidden, mlp, scale(1, mlp));
      expect_vector(l.q_bias, attention + "q_proj.bias", c.attention_bias ? q : 0, 0, 0.5);
      expect_vector(l.k_bias, attention + "k_proj.bias", c.attention_bias ? kv : 0, 0, 0.5);
      expect_vector(l.v_bias, attention + "v_proj.bias", c.attention_bias ? kv : 0, 0, 0.5);
      expect_vector(l.o_bias, attention + "o_proj.bias", c.attention_bias ? hidden : 0, 0, 0.5);
      expect_vector(l.gate_bias, feed_forward + "gate_proj.bias", c.mlp_bias ? mlp : 0, 0, 0.5);
      expect_vector(l.up_bias, feed_forward + "up_proj.bias", c.mlp_bias ? mlp : 0, 0, 0.5);
      expect_vector(l.down_bias, feed_forward + "down_proj.bias", c.mlp_bias ? hidden : 0, 0, 0.5);
    }
  }
}

TEST(ModelWeights, KeepTheTypeThatEachTensorIsStoredIn) {
  const std::pair<const char*, DType> cases[] = {
      {"mha", DType::kF32}, {"f16", DType::kF16}, {"bf16", DType::kBF16}};
  ModelConfig config;
  for (const auto& [model, dtype] : cases) {
    const ModelWeights w = load(model, config);
    EXPECT_EQ(w.embedding.dtype, dtype) << model;
    EXPECT_EQ(w.layers[1].down.dtype, dtype) << model;
  }
  const ModelWeights mixed = load("mixed_dtypes", config);
  EXPECT_EQ(mixed.embedding.dtype, DType::kBF16);
  EXPECT_EQ(mixed.layers[0].q.dtype, DType::kBF16);
  EXPECT_EQ(mixed.layers[0].gate.dtype, DType::kF16);
}

TEST(ModelWeights, TiedHeadIsTheEmbedding) {
  ModelConfig config;
  const ModelWeights tied = load("tied", config);
  EXPECT_EQ(tied.lm_head.data, tied.embedding.data);
  EXPECT_EQ(tied.lm_head.rows, config.vocab_size);
  const ModelWeights untied = load("mha", config);
  EXPECT_NE(untied.lm_head.data, untied.embedding.data);
}

TEST(ModelWeights, FileBytesCountEveryShard) {
  ModelConfig config;
  for (const std::string model : {"sharded", "bf16"}) {
    uint64_t bytes = 0;
    for (const auto& entry : std::filesystem::directory_iterator(golden::kTinyModels / model))
      if (entry.path().extension() == ".safetensors") bytes += entry.file_size();
    EXPECT_EQ(load(model, config).file_bytes, bytes) << model;
  }
}

TEST(ModelWeights, LeftoversThatTransformersIgnoresDoNoHarm) {
  TinyModel model = random_model();
  model.config["tie_word_embeddings"] = true;  // with lm_head.weight still in the file
  model.tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = f32_tensor({4}, {1, 2, 3, 4});
  const TempDir directory;
  model.write(directory.path());
  const ModelConfig config = ModelConfig::load(directory.path());
  const ModelWeights w = ModelWeights::load(directory.path(), config);
  EXPECT_EQ(w.lm_head.data, w.embedding.data);
}

}  // namespace
}  // namespace stamp
