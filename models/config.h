#pragma once
#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace stamp {

/// How positions beyond the original context are reached; fields as in transformers' modeling_rope_utils.
struct RopeScaling {
  enum class Kind { kNone, kLinear, kLlama3, kYarn };
  Kind kind = Kind::kNone;
  double factor = 1.0;
  double low_freq_factor = 1.0, high_freq_factor = 4.0;  // llama3
  int64_t original_max_position_embeddings = 0;          // llama3, yarn
  double beta_fast = 32.0, beta_slow = 1.0;              // yarn
  double attention_factor = 1.0;                         // yarn: multiplies cos and sin
  bool truncate = true;                                  // yarn: whole pair indices at the ends of the ramp
};

/// Of the directories that `stamp quantize` writes. 2: scales of two levels (kernels/quant_format.h).
inline constexpr int kQuantisedVersion = 2;

/// config.json of a Llama-family model: all that the forward pass needs.
struct ModelConfig {
  std::string model_type;
  int64_t vocab_size = 0, hidden_size = 0, intermediate_size = 0, layers = 0;
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  int64_t max_position_embeddings = 0;
  float rms_norm_eps = 1e-6f;
  double rope_theta = 10000.0;
  RopeScaling rope_scaling;
  bool attention_bias = false, mlp_bias = false, tie_word_embeddings = false;
  std::optional<int32_t> bos_token_id;
  std::vector<int32_t> eos_token_ids;
  std::string stored_recipe;  // JSON of the recipe of a directory that stamp quantised; empty: not quantised

  /// Channels of the widest input of a linear.
  int64_t widest_input() const { return std::max({hidden_size, heads * head_dim, intermediate_size}); }

  /// Reads DIR/config.json. Throws InputError naming file and field for anything missing, out of range or
  /// contradictory, for architectures that are not Llama's, and for fields that change the mathematics in a
  /// way this engine does not know.
  static ModelConfig load(const std::filesystem::path& directory);
  static ModelConfig parse(std::string_view text, const std::string& file_name);
};

/// generation_config.json; every field is optional, and so is the file.
struct GenerationConfig {
  bool do_sample = false;
  std::optional<float> temperature, top_p, min_p, repetition_penalty;
  std::optional<int32_t> top_k;
  std::vector<int32_t> eos_token_ids;  // those of config.json if the file names none

  static GenerationConfig load(const std::filesystem::path& directory, const ModelConfig& config);
  static GenerationConfig parse(std::string_view text, const std::string& file_name,
                                const ModelConfig& config);
};

}  // namespace stamp
