#include "models/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "kernels/error.h"
#include "models/weights.h"
#include "tests/models/malformed_safetensors.h"
#include "tests/tiny_model.h"

namespace stamp {
namespace {

using testing::ElementsAre;

TEST(Safetensors, TensorsAreViewsOfTheirBytes) {
  const TempDir dir;
  TinyTensors tensors;
  tensors["a"] = f32_tensor({2, 3}, {1, 2, 3, 4, 5, 6});
  tensors["b"] = {"F16", {4}, std::string("\x00\x3c\x00\xc0\x01\x00\x00\x7c", 8)};
  tensors["c.empty"] = {"BF16", {0, 7}, ""};
  tensors["d.scalar"] = {"I64", {}, std::string("\x05\0\0\0\0\0\0\0", 8)};
  tensors["e"] = {"U8", {3}, "xyz"};
  write_file(dir / "model.safetensors", safetensors_bytes(tensors));
  const Safetensors file = Safetensors::open(dir.path());
  ASSERT_EQ(file.tensors().size(), tensors.size());
  EXPECT_EQ(file.file_bytes(), std::filesystem::file_size(dir / "model.safetensors"));
  for (const auto& [name, written] : tensors) {
    const TensorInfo& read = file.at(name);
    EXPECT_EQ(read.name, name);
    EXPECT_EQ(read.file, (dir / "model.safetensors").string());
    EXPECT_EQ(read.dtype, written.dtype);
    EXPECT_EQ(read.shape, written.shape);
    ASSERT_EQ(read.bytes, written.data.size());
    EXPECT_EQ(std::memcmp(read.data, written.data.data(), read.bytes), 0) << name;
  }
  EXPECT_EQ(file.at("a").elements(), 6);
  EXPECT_EQ(file.at("c.empty").elements(), 0);
  EXPECT_EQ(file.at("d.scalar").elements(), 1);
  EXPECT_EQ(file.at("a").weight_dtype(), DType::kF32);
  EXPECT_EQ(file.at("b").weight_dtype(), DType::kF16);
  EXPECT_EQ(file.at("c.empty").weight_dtype(), DType::kBF16);
  EXPECT_THROW(file.at("e").weight_dtype(), InputError);
  EXPECT_EQ(file.find("absent"), nullptr);
  EXPECT_THROW(file.at("absent"), InputError);
}

TEST(Safetensors, EveryDtypeHasItsSize) {
  for (const auto& [dtype, size] : std::initializer_list<std::pair<const char*, size_t>>{{"F64", 8},
                                                                                         {"F32", 4},
                                                                                         {"F16", 2},
                                                                                         {"BF16", 2},
                                                                                         {"I64", 8},
                                                                                         {"I32", 4},
                                                                                         {"I16", 2},
                                                                                         {"I8", 1},
                                                                                         {"U64", 8},
                                                                                         {"U32", 4},
                                                                                         {"U16", 2},
                                                                                         {"U8", 1},
                                                                                         {"F8_E4M3", 1},
                                                                                         {"F8_E5M2", 1},
                                                                                         {"BOOL", 1}}) {
    const std::string bytes = safetensors_bytes({{"t", {dtype, {3}, std::string(3 * size, '\1')}}});
    const auto tensors = parse_safetensors(std::as_bytes(std::span(bytes)), "f");
    ASSERT_EQ(tensors.size(), 1u);
    EXPECT_EQ(tensors[0].bytes, 3 * size) << dtype;
  }
}

TEST(Safetensors, TheHeaderMayNameTensorsInAnyOrder) {
  const std::string bytes = safetensors_bytes(R"({"b": {"data_offsets": [4, 8], "shape": [4], "dtype": "U8"},
      "__metadata__": {"format": "pt", "note": ""}, "a": {"dtype": "U8", "shape": [2, 2], "data_offsets": [0, 4]},
      "none": {"dtype": "U8", "shape": [0], "data_offsets": [4, 4]}})",
                                              "aaaabbbb");
  const auto tensors = parse_safetensors(std::as_bytes(std::span(bytes)), "f");
  std::vector<std::string> names;
  for (const TensorInfo& tensor : tensors) names.push_back(tensor.name);
  EXPECT_THAT(names, ElementsAre("a", "none", "b"));
  EXPECT_EQ(char(tensors[2].data[0]), 'b');
}

TEST(Safetensors, ShardsAreOneSetOfTensors) {
  const TempDir dir;
  random_model().write(dir.path());
  const Safetensors whole = Safetensors::open(dir.path());
  const TempDir other;
  random_model().write(other.path());
  malformed::shard(other.path());
  const Safetensors sharded = Safetensors::open(other.path());
  ASSERT_EQ(sharded.tensors().size(), whole.tensors().size());
  for (const auto& [name, tensor] : whole.tensors()) {
    const TensorInfo& twin = sharded.at(name);
    EXPECT_EQ(twin.shape, tensor.shape);
    ASSERT_EQ(twin.bytes, tensor.bytes);
    EXPECT_EQ(std::memcmp(twin.data, tensor.data, tensor.bytes), 0) << name;
  }
  EXPECT_NE(sharded.at("lm_head.weight").file, sharded.at("model.norm.weight").file);
  // A single file wins over an index, as in transformers.
  random_model().write(other.path());
  EXPECT_EQ(Safetensors::open(other.path()).at("lm_head.weight").file,
            (other / "model.safetensors").string());
}

TEST(Safetensors, AnIndexWithoutASizeIsEnough) {
  const TempDir dir;
  random_model().write(dir.path());
  malformed::shard(dir.path());
  malformed::edit_json(dir / malformed::kIndex, [](malformed::Json& json) { json.erase("metadata"); });
  EXPECT_NO_THROW(Safetensors::open(dir.path()));
}

TEST(Weights, NormsAreWidenedAndMatricesStayInTheirType) {
  const TempDir dir;
  TinyModel model = random_model();
  model.tensors["model.norm.weight"] = {
      "F16", {16}, std::string("\x00\x3c\x00\xc0", 4) + std::string(28, '\0')};
  model.tensors["model.layers.0.input_layernorm.weight"] = {
      "BF16", {16}, std::string("\x80\x3f\xc0\xbf", 4) + std::string(28, '\0')};
  model.tensors["lm_head.weight"] = {"BF16", {264, 16}, std::string(264 * 16 * 2, '\x3f')};
  model.write(dir.path());
  const ModelWeights weights = ModelWeights::load(dir.path(), ModelConfig::load(dir.path()));
  EXPECT_EQ(weights.norm[0], 1.0f);
  EXPECT_EQ(weights.norm[1], -2.0f);
  EXPECT_EQ(weights.layers[0].input_norm[0], 1.0f);
  EXPECT_EQ(weights.layers[0].input_norm[1], -1.5f);
  EXPECT_EQ(weights.lm_head.dtype, DType::kBF16);
  EXPECT_EQ(weights.embedding.dtype, DType::kF32);
  EXPECT_EQ(weights.layers.size(), 2u);
  EXPECT_TRUE(weights.layers[0].q_bias.empty());
}

TEST(Weights, TiedModelsNeedNoHeadAndIgnoreALeftover) {
  const TempDir dir;
  TinyModel model = random_model();
  model.config["tie_word_embeddings"] = true;
  model.tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = f32_tensor({4}, {1, 2, 3, 4});
  for (const bool leftover : {true, false}) {
    if (!leftover) model.tensors.erase("lm_head.weight");
    model.write(dir.path());
    const ModelWeights weights = ModelWeights::load(dir.path(), ModelConfig::load(dir.path()));
    EXPECT_EQ(weights.lm_head.data, weights.embedding.data);
  }
}

TEST(Weights, BiasesAreReadWhereTheConfigurationHasThem) {
  const TempDir dir;
  TinyModel model = random_model();
  model.config["attention_bias"] = true;
  model.config["mlp_bias"] = true;
  const auto add = [&](const std::string& name, int64_t size, float value) {
    for (int layer : {0, 1})
      model.tensors["model.layers." + std::to_string(layer) + "." + name] =
          f32_tensor({size}, std::vector<float>(size_t(size), value));
  };
  add("self_attn.q_proj.bias", 32, 1);
  add("self_attn.k_proj.bias", 16, 2);
  add("self_attn.v_proj.bias", 16, 3);
  add("self_attn.o_proj.bias", 16, 4);
  add("mlp.gate_proj.bias", 24, 5);
  add("mlp.up_proj.bias", 24, 6);
  add("mlp.down_proj.bias", 16, 7);
  model.write(dir.path());
  const ModelWeights weights = ModelWeights::load(dir.path(), ModelConfig::load(dir.path()));
  const LayerWeights& layer = weights.layers[1];
  EXPECT_EQ(layer.q_bias[31], 1);
  EXPECT_EQ(layer.k_bias[15], 2);
  EXPECT_EQ(layer.v_bias[15], 3);
  EXPECT_EQ(layer.o_bias[15], 4);
  EXPECT_EQ(layer.gate_bias[23], 5);
  EXPECT_EQ(layer.up_bias[23], 6);
  EXPECT_EQ(layer.down_bias[15], 7);
}

}  // namespace
}  // namespace stamp
