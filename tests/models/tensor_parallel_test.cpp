// A model dealt to several shards, each a thread with operations of its own, is the model.
#include "models/tensor_parallel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <thread>

#include "kernels/error.h"
#include "models/llama.h"
#include "models/prepare/prepare.h"
#include "tests/kernels/nmse.h"
#include "tests/tiny_model.h"

namespace stamp {
namespace {

/// Eight query heads of 16 channels and four KV heads; 320 intermediate channels, five blocks of R4.
TinyModel model_of_many_heads() {
  TinyModel model = random_model(5, 64);
  model.config.update({{"num_attention_heads", 8},
                       {"num_key_value_heads", 4},
                       {"head_dim", 16},
                       {"intermediate_size", 320},
                       {"attention_bias", true},
                       {"mlp_bias", true}});
  std::mt19937 rng(5);
  model.tensors = tiny::tensors(model.config, [&](const std::string& name) {
    const float uniform = float(int32_t(rng() % 20001) - 10000) * 1e-4f;  // [-1, 1]
    return name.ends_with("norm.weight") ? 1.0f + 0.1f * uniform : 0.3f * uniform;
  });
  const auto add_bias = [&](const std::string& name, int64_t size) {
    std::vector<float> values(static_cast<size_t>(size));
    for (float& x : values) x = float(int32_t(rng() % 2001) - 1000) * 1e-4f;
    model.tensors[name + ".bias"] = f32_tensor({size}, values);
  };
  for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
    add_bias(layer + "self_attn.q_proj", 128);
    add_bias(layer + "self_attn.k_proj", 64);
    add_bias(layer + "self_attn.v_proj", 64);
    add_bias(layer + "self_attn.o_proj", 64);
    add_bias(layer + "mlp.gate_proj", 320);
    add_bias(layer + "mlp.up_proj", 320);
    add_bias(layer + "mlp.down_proj", 64);
  }
  return model;
}

struct Loaded {
  explicit Loaded(const Recipe& r) : recipe(r) {
    model_of_many_heads().write(directory.path());
    config = ModelConfig::load(directory.path());
    weights = ModelWeights::load(directory.path(), config);
    const auto ops = make_ops("scalar", 1);
    if (!recipe.keeps_weights())
      weights = prepare_weights(config, weights, recipe, {.ops = ops.get(), .progress = {}});
  }
  TempDir directory;
  Recipe recipe;
  ModelConfig config;
  ModelWeights weights;
};

/// Pages of one sequence of up to 192 tokens.
class Pages {
 public:
  Pages(const ModelConfig& config, const Recipe& recipe) {
    view_ = {.open = {},
             .sealed = {},
             .kv_heads = config.kv_heads,
             .head_dim = config.head_dim,
             .format = {.coded = recipe.kv.quantised, .plan = recipe.kv.plan}};
    for (size_t i = 0; i < 3; ++i) {
      for (auto* forms : {&open_, &sealed_}) {
        const int64_t bytes = forms == &open_ ? view_.open_layer_bytes() : view_.sealed_layer_bytes();
        memory_.emplace_back(bytes * config.layers);
        (*forms)[i] = memory_.back().data();
      }
    }
    view_.open = open_;
    view_.sealed = sealed_;
  }
  const KvPages& view() const { return view_; }
  std::span<const int32_t> ids() const { return ids_; }

 private:
  std::vector<Buffer<std::byte>> memory_;
  std::array<std::byte*, 3> open_{}, sealed_{};
  std::array<int32_t, 3> ids_{0, 1, 2};
  KvPages view_;
};

/// Logits [150, vocab] of a prompt of 130 tokens and 20 single ones.
std::vector<float> logits_of(const ModelConfig& config, const ModelWeights& weights, const Recipe& recipe,
                             Communicator* shards) {
  constexpr int64_t kPrompt = 130, kTokens = 150;
  const auto ops = make_ops("scalar", 1);
  Llama llama(config, weights, recipe, *ops, kPrompt);
  if (shards != nullptr) llama.join(*shards);
  const Pages pages(config, recipe);
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < kTokens; ++i) tokens.push_back(int32_t(i * i * 7 % 250));
  std::vector<float> logits(size_t(kTokens * config.vocab_size));
  for (int64_t begin = 0; begin < kTokens;) {
    const int64_t rows = begin == 0 ? kPrompt : 1;
    std::vector<int32_t> wanted(static_cast<size_t>(rows));
    std::iota(wanted.begin(), wanted.end(), 0);
    const RowRun run{.row = 0, .count = rows, .position = begin, .pages = pages.ids()};
    llama.forward({.tokens = std::span(tokens).subspan(size_t(begin), size_t(rows)),
                   .runs = {&run, 1},
                   .logit_rows = wanted},
                  pages.view(),
                  {logits.data() + begin * config.vocab_size, rows, config.vocab_size, config.vocab_size});
    begin += rows;
  }
  return logits;
}

std::vector<std::vector<float>> logits_of_shards(const Loaded& m, int64_t count) {
  const std::vector<Shard> plan = plan_shards(m.config, m.weights, count);
  ThreadGroup group(static_cast<int>(count));
  std::vector<std::vector<float>> logits(static_cast<size_t>(count));
  std::vector<std::jthread> threads;
  for (const Shard& shard : plan)
    threads.emplace_back([&] {
      const ModelConfig config = shard_config(m.config, shard);
      const ModelWeights weights = shard_weights(m.config, m.weights, shard);
      logits[size_t(shard.index)] = logits_of(config, weights, m.recipe, &group[int(shard.index)]);
    });
  threads.clear();
  return logits;
}

Recipe parsed(const std::string& json) { return Recipe::parse(json, "test"); }
Recipe weights_of(int bits) {
  return parsed(R"({"name": "weights", "weights": {"bits": )" + std::to_string(bits) +
                R"(, "group": 32, "head_bits": 8},
    "rotation": {"residual": true, "head": true, "down": true}})");
}
Recipe all_coded() {
  return parsed(R"({"name": "coded", "weights": {"bits": 4, "group": 32, "head_bits": 8},
    "rotation": {"residual": true, "head": true, "down": true},
    "activations": {"low_bits": 4, "high_bits": 8, "high_rows": 2, "transform": "haar", "levels": 5},
    "kv": {"low_bits": 4, "high_bits": 8, "high_rows": 2, "transform": "haar", "levels": 5}})");
}

TEST(TensorParallel, LogitsOfFloatActivationsAreThoseOfOneDevice) {
  for (const Recipe& recipe : {Recipe{}, weights_of(8), weights_of(4)}) {
    const Loaded model(recipe);
    const std::vector<float> whole = logits_of(model.config, model.weights, recipe, nullptr);
    EXPECT_EQ(logits_of_shards(model, 1).front(), whole);
    for (const int64_t shards : {2, 4}) {
      const auto logits = logits_of_shards(model, shards);
      for (const auto& of_shard : logits) EXPECT_EQ(of_shard, logits.front()) << shards;
      EXPECT_LE(nmse(logits.front(), whole), 1e-11)
          << recipe.weights.bits << "-bit weights on " << shards << " shards";
    }
    EXPECT_EQ(logits_of_shards(model, 2), logits_of_shards(model, 2)) << "bits differ from run to run";
  }
}

/// Shards scale o's and down's inputs by their own channels: against float activations and cache that loses
/// no more than one device does.
TEST(TensorParallel, LogitsOfIntegerActivationsLoseNoMoreThanOnOneDevice) {
  const Loaded model(all_coded());
  const std::vector<float> truth = logits_of(model.config, model.weights, weights_of(4), nullptr);
  const double loss = nmse(logits_of(model.config, model.weights, model.recipe, nullptr), truth);
  for (const int64_t shards : {2, 4})
    EXPECT_LE(nmse(logits_of_shards(model, shards).front(), truth), 1.1 * loss) << shards;
}

ModelWeights weights_with(int64_t group, int64_t rotated) {
  ModelWeights weights;
  LayerWeights layer;
  for_each_matrix(layer, [&](const char*, WeightView& w) { w = {.dtype = DType::kQ4, .group = group}; });
  weights.layers = {layer};
  if (rotated > 0) weights.down_rotation = Rotation::hadamard(rotated);
  return weights;
}

/// Llama-3-8B's.
ModelConfig big_config() {
  ModelConfig config;
  config.heads = 32, config.kv_heads = 8, config.head_dim = 128, config.intermediate_size = 14336;
  return config;
}

TEST(TensorParallel, PlansCutNeitherHeadsNorBlocksOfR4) {
  const ModelConfig config = big_config();
  const ModelWeights weights = weights_with(64, 14336);
  for (const int64_t shards : {1, 2, 4}) {
    int64_t head = 0, kv_head = 0, intermediate = 0, least = 14336, most = 0;
    for (const Shard& s : plan_shards(config, weights, shards)) {
      EXPECT_EQ(s.head, head);
      EXPECT_EQ(s.kv_head, kv_head);
      EXPECT_EQ(s.heads, 4 * s.kv_heads);
      EXPECT_EQ(s.intermediate, intermediate);
      EXPECT_EQ(s.intermediate_size % 2048, 0);
      head += s.heads;
      kv_head += s.kv_heads;
      intermediate += s.intermediate_size;
      least = std::min(least, s.intermediate_size);
      most = std::max(most, s.intermediate_size);
    }
    EXPECT_EQ(head, 32);
    EXPECT_EQ(kv_head, 8);
    EXPECT_EQ(intermediate, 14336);
    EXPECT_LE(most - least, shards > 1 ? 2048 : 0);
  }
  EXPECT_EQ(plan_shards(config, weights_with(64, 0), 8)[7].intermediate_size, 14336 / 8);
}

std::string refusal(const ModelConfig& config, const ModelWeights& weights, int64_t shards) {
  try {
    plan_shards(config, weights, shards);
  } catch (const InputError& e) {
    return e.what();
  }
  return "";
}

TEST(TensorParallel, WhatCannotBeCutIsNamed) {
  using testing::HasSubstr;
  ModelConfig config = big_config();
  EXPECT_THAT(refusal(config, weights_with(64, 0), 0), HasSubstr("at least one"));
  EXPECT_THAT(refusal(config, weights_with(64, 0), 3), HasSubstr("8 KV heads cannot be dealt out evenly"));
  EXPECT_THAT(refusal(config, weights_with(64, 0), 16), HasSubstr("8 KV heads cannot be dealt out evenly"));
  EXPECT_THAT(refusal(config, weights_with(64, 14336), 8),
              HasSubstr("(R4) turns its 14336 input channels in 7 blocks"));
  config.intermediate_size = 8192;
  EXPECT_THAT(refusal(config, weights_with(64, 8192), 2), HasSubstr("in 1 block of 8192; use a recipe with"));
  config.intermediate_size = 128;
  EXPECT_THAT(refusal(config, weights_with(64, 0), 4), HasSubstr("128 intermediate channels in units of 64"));
  config.head_dim = 8;
  EXPECT_THAT(refusal(config, weights_with(64, 0), 8),
              HasSubstr("4 query heads of 8 channels are no multiple of 64"));
  EXPECT_THAT(refusal(config, weights_with(32, 0), 8),
              HasSubstr("1 KV heads of 8 channels are no multiple of 16"));
}

}  // namespace
}  // namespace stamp
