#include "models/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/error.h"
#include "models/nlohmann.h"
#include "tests/tiny_model.h"

namespace stamp {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using Kind = RopeScaling::Kind;

constexpr const char* kLeast =
    R"({"model_type": "llama", "vocab_size": 100, "hidden_size": 32, "intermediate_size": 64,
                                   "num_hidden_layers": 3, "num_attention_heads": 4})";

ModelConfig with(const char* patch) {
  auto json = nlohmann::json::parse(kLeast);
  json.update(nlohmann::json::parse(patch));  // not merge_patch(), which would drop a null
  return ModelConfig::parse(json.dump(), "config.json");
}

TEST(Config, LeastOneHasTransformersDefaults) {
  const ModelConfig c = ModelConfig::parse(kLeast, "config.json");
  EXPECT_EQ(c.model_type, "llama");
  EXPECT_EQ(c.vocab_size, 100);
  EXPECT_EQ(c.hidden_size, 32);
  EXPECT_EQ(c.intermediate_size, 64);
  EXPECT_EQ(c.layers, 3);
  EXPECT_EQ(c.heads, 4);
  EXPECT_EQ(c.kv_heads, 4);
  EXPECT_EQ(c.head_dim, 8);
  EXPECT_EQ(c.max_position_embeddings, 2048);
  EXPECT_EQ(c.rms_norm_eps, 1e-6f);
  EXPECT_EQ(c.rope_theta, 10000.0);
  EXPECT_EQ(c.rope_scaling.kind, Kind::kNone);
  EXPECT_FALSE(c.attention_bias || c.mlp_bias || c.tie_word_embeddings);
  EXPECT_EQ(c.bos_token_id, std::nullopt);
  EXPECT_THAT(c.eos_token_ids, IsEmpty());
  // MistralConfig's default is 8 KV heads.
  EXPECT_EQ(with(R"({"model_type": "mistral", "num_attention_heads": 16, "sliding_window": null})").kv_heads,
            8);
}

TEST(Config, EveryFieldIsRead) {
  const ModelConfig c =
      with(R"({"model_type": "mistral", "architectures": ["MistralForCausalLM"], "num_key_value_heads": 2,
      "head_dim": 20, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "rope_theta": 1000000.0,
      "attention_bias": true, "mlp_bias": true, "tie_word_embeddings": true, "sliding_window": null, "bos_token_id": 1,
      "eos_token_id": [2, 99]})");
  EXPECT_EQ(c.model_type, "mistral");
  EXPECT_EQ(c.kv_heads, 2);
  EXPECT_EQ(c.head_dim, 20);
  EXPECT_EQ(c.max_position_embeddings, 4096);
  EXPECT_EQ(c.rms_norm_eps, 1e-5f);
  EXPECT_EQ(c.rope_theta, 1e6);
  EXPECT_TRUE(c.attention_bias && c.mlp_bias && c.tie_word_embeddings);
  EXPECT_EQ(c.bos_token_id, 1);
  EXPECT_THAT(c.eos_token_ids, ElementsAre(2, 99));
  EXPECT_THAT(with(R"({"eos_token_id": 7})").eos_token_ids, ElementsAre(7));
}

TEST(Config, FieldsThatAreOffOrHarmlessAreAccepted) {
  EXPECT_NO_THROW(with(
      R"({"sliding_window": null, "pretraining_tp": 1, "partial_rotary_factor": 1.0, "rope_interleaved": false,
      "hidden_act": "silu", "use_cache": true, "torch_dtype": "bfloat16", "transformers_version": "4.40.0",
      "initializer_range": 0.02, "attention_dropout": 0.0, "rope_scaling": null, "quantization_config": null,
      "some_feature": false, "another": 0, "third": [], "transformers.js_config": {"dtype": {"x": 1}}})"));
}

TEST(Config, RopeScalingOfEveryType) {
  RopeScaling s = with(R"({"rope_scaling": {"type": "linear", "factor": 2.5}})").rope_scaling;
  EXPECT_EQ(s.kind, Kind::kLinear);
  EXPECT_EQ(s.factor, 2.5);

  s = with(
          R"({"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 8192}})")
          .rope_scaling;
  EXPECT_EQ(s.kind, Kind::kLlama3);
  EXPECT_EQ(s.factor, 8);
  EXPECT_EQ(s.low_freq_factor, 1);
  EXPECT_EQ(s.high_freq_factor, 4);
  EXPECT_EQ(s.original_max_position_embeddings, 8192);

  s = with(R"({"max_position_embeddings": 777, "rope_scaling": {"type": "yarn", "factor": 4.0}})")
          .rope_scaling;
  EXPECT_EQ(s.kind, Kind::kYarn);
  EXPECT_EQ(s.original_max_position_embeddings, 777);  // the model's own, if none is given
  EXPECT_EQ(s.beta_fast, 32);
  EXPECT_EQ(s.beta_slow, 1);
  EXPECT_TRUE(s.truncate);
  EXPECT_DOUBLE_EQ(s.attention_factor, 0.1 * std::log(4.0) + 1);

  EXPECT_EQ(with(R"({"rope_scaling": {"type": "default"}})").rope_scaling.kind, Kind::kNone);
}

TEST(Config, YarnAttentionFactorAsInTransformers) {
  const auto factor = [](const char* more) {
    return with((std::string(R"({"rope_scaling": {"rope_type": "yarn", "factor": 40.0)") + more + "}}")
                    .c_str())
        .rope_scaling.attention_factor;
  };
  const double ln = std::log(40.0);
  EXPECT_DOUBLE_EQ(factor(R"(, "attention_factor": 1.25)"), 1.25);
  EXPECT_DOUBLE_EQ(factor(R"(, "mscale": 0.7, "mscale_all_dim": 1.0)"), (0.07 * ln + 1) / (0.1 * ln + 1));
  EXPECT_DOUBLE_EQ(factor(R"(, "mscale": 0.7)"), 0.1 * ln + 1);  // one alone does not count
  EXPECT_DOUBLE_EQ(factor(R"(, "mscale": 0.7, "mscale_all_dim": 0)"), 0.1 * ln + 1);  // nor a zero
  EXPECT_FALSE(
      with(
          R"({"rope_scaling": {"type": "yarn", "factor": 4, "truncate": false, "beta_fast": 16, "beta_slow": 2,
                        "original_max_position_embeddings": 64}})")
          .rope_scaling.truncate);
}

TEST(Config, RopeParametersOfTransformersFiveHoldTheta) {
  const ModelConfig c =
      with(R"({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 500000.0}})");
  EXPECT_EQ(c.rope_theta, 500000.0);
  EXPECT_EQ(c.rope_scaling.kind, Kind::kLinear);
  EXPECT_EQ(with(R"({"rope_theta": 5.0, "rope_parameters": {"rope_type": "default", "rope_theta": 5.0}})")
                .rope_theta,
            5.0);
}

TEST(GenerationConfig, MissingFileMeansGreedyAndTheModelsEos) {
  const TempDir dir;
  const GenerationConfig g = GenerationConfig::load(dir.path(), with(R"({"eos_token_id": 7})"));
  EXPECT_FALSE(g.do_sample);
  EXPECT_EQ(g.temperature, std::nullopt);
  EXPECT_THAT(g.eos_token_ids, ElementsAre(7));
}

TEST(GenerationConfig, EveryFieldIsRead) {
  const TempDir dir;
  write_file(
      dir / "generation_config.json",
      R"({"do_sample": true, "temperature": 0.5, "top_p": 0.875, "min_p": 0.25, "top_k": 40, "repetition_penalty": 1.5,
                 "eos_token_id": [3, 4], "transformers_version": "4.40.0", "bos_token_id": 1, "max_length": 4096})");
  const GenerationConfig g = GenerationConfig::load(dir.path(), with(R"({"eos_token_id": 7})"));
  EXPECT_TRUE(g.do_sample);
  EXPECT_EQ(g.temperature, 0.5f);
  EXPECT_EQ(g.top_p, 0.875f);
  EXPECT_EQ(g.min_p, 0.25f);
  EXPECT_EQ(g.top_k, 40);
  EXPECT_EQ(g.repetition_penalty, 1.5f);
  EXPECT_THAT(g.eos_token_ids, ElementsAre(3, 4));
}

}  // namespace
}  // namespace stamp
