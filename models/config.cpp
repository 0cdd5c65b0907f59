#include "models/config.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/draw.h"
#include "kernels/error.h"
#include "models/file.h"
#include "models/json.h"

namespace stamp {
namespace {

constexpr int64_t kMaxSize = int64_t{1} << 24;  // of one dimension: the product of two is far from 64 bits
constexpr double kHuge = 1e12;
constexpr uint64_t kMaxConfigBytes = uint64_t{16} << 20;

/// Fields that say nothing about the forward pass.
constexpr std::string_view kHarmless[] = {"_name_or_path",
                                          "architectures",
                                          "attention_dropout",
                                          "attn_implementation",
                                          "_attn_implementation",
                                          "auto_map",
                                          "bos_token_id",
                                          "classifier_dropout",
                                          "dtype",
                                          "eos_token_id",
                                          "hidden_dropout",
                                          "initializer_range",
                                          "is_llama_config",
                                          "max_length",
                                          "model_type",
                                          "pad_token_id",
                                          "return_dict",
                                          "tokenizer_class",
                                          "torch_dtype",
                                          "transformers_version",
                                          "transformers.js_config",
                                          "unk_token_id",
                                          "use_cache",
                                          "vocab_size",
                                          "hidden_size",
                                          "intermediate_size",
                                          "num_hidden_layers",
                                          "num_attention_heads",
                                          "num_key_value_heads",
                                          "head_dim",
                                          "max_position_embeddings",
                                          "rms_norm_eps",
                                          "rope_theta",
                                          "rope_scaling",
                                          "rope_parameters",
                                          "attention_bias",
                                          "mlp_bias",
                                          "tie_word_embeddings",
                                          "hidden_act",
                                          "pretraining_tp",
                                          "partial_rotary_factor",
                                          "sliding_window",
                                          "rope_interleaved",
                                          "id2label",
                                          "label2id",
                                          "chunk_size_feed_forward",
                                          "task_specific_params",
                                          "problem_type",
                                          "output_attentions",
                                          "output_hidden_states",
                                          "quantization_config"};

/// A value that switches a feature off.
bool is_off(const nlohmann::json& value) {
  if (value.is_null()) return true;
  if (value.is_boolean()) return !value.get<bool>();
  if (value.is_number()) return value.get<double>() == 0;
  return (value.is_string() || value.is_array() || value.is_object()) && value.empty();
}

void refuse_unknown_mathematics(const JsonFields& fields) {
  const auto& object = fields.object();
  if (const auto act = fields.string("hidden_act"); act && *act != "silu" && *act != "swish")
    fields.fail("hidden_act", "is " + *act + "; only silu is supported");
  if (fields.integer("pretraining_tp", 1, 1024).value_or(1) != 1)
    fields.fail("pretraining_tp", "above 1 is not supported");
  if (fields.number("partial_rotary_factor", 0, 1).value_or(1) != 1)
    fields.fail("partial_rotary_factor", "other than 1 is not supported");
  if (fields.has("sliding_window") && !is_off(object["sliding_window"]))
    fields.fail("sliding_window", "is not supported; set it to null only if the model was trained without");
  if (fields.string("model_type").value_or("llama") == "mistral" && !object.contains("sliding_window"))
    fields.fail(
        "sliding_window",
        "is missing, which means 4096 for mistral; set it to null only if the model was trained without");
  if (fields.boolean("rope_interleaved").value_or(false)) fields.fail("rope_interleaved", "is not supported");
  for (const auto& [name, value] : object.items()) {
    if (std::find(std::begin(kHarmless), std::end(kHarmless), name) != std::end(kHarmless) || is_off(value))
      continue;
    fields.fail(
        name, "is a field this engine does not know; it may change the mathematics, so the model is refused");
  }
}

double yarn_attention_factor(const JsonFields& rope, double factor) {
  // transformers: 0.1 ln(s) + 1 (YaRN, equation 22), or the ratio of two such terms if both mscales are
  // given.
  const auto term = [factor](double mscale) {
    return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
  };
  const auto mscale = rope.number("mscale", 0, 1e6), all_dim = rope.number("mscale_all_dim", 0, 1e6);
  if (const auto given = rope.number("attention_factor", 1e-6, kHuge)) return *given;
  if (mscale && all_dim && *mscale != 0 && *all_dim != 0) return term(*mscale) / term(*all_dim);
  return term(1.0);
}

RopeScaling parse_rope(const JsonFields& rope, int64_t max_position_embeddings) {
  RopeScaling s;
  const auto old_name = rope.string("type"), new_name = rope.string("rope_type");
  if (old_name && new_name && *old_name != *new_name)
    rope.fail("type", "and rope_type contradict each other");
  const std::string kind = new_name ? *new_name : old_name.value_or("default");
  std::vector<std::string_view> known{"type", "rope_type", "rope_theta", "partial_rotary_factor"};
  const auto also = [&known](std::initializer_list<std::string_view> names) {
    known.insert(known.end(), names);
  };
  const auto original = [&] {
    return rope.integer("original_max_position_embeddings", 1, int64_t{1} << 40)
        .value_or(max_position_embeddings);
  };
  if (kind == "linear") {
    s.kind = RopeScaling::Kind::kLinear;
    s.factor = rope.required_number("factor", 1, 1e6);
    also({"factor"});
  } else if (kind == "llama3") {
    s.kind = RopeScaling::Kind::kLlama3;
    s.factor = rope.required_number("factor", 1, 1e6);
    s.low_freq_factor = rope.required_number("low_freq_factor", 1e-6, 1e6);
    s.high_freq_factor = rope.required_number("high_freq_factor", 1e-6, 1e6);
    if (s.high_freq_factor <= s.low_freq_factor)
      rope.fail("high_freq_factor", "must be above low_freq_factor");
    if (!rope.has("original_max_position_embeddings"))
      rope.fail("original_max_position_embeddings", "is missing");
    s.original_max_position_embeddings = original();
    also({"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"});
  } else if (kind == "yarn") {
    s.kind = RopeScaling::Kind::kYarn;
    s.factor = rope.required_number("factor", 1, 1e6);
    s.original_max_position_embeddings = original();
    s.beta_fast = rope.number("beta_fast", 1e-6, 1e6).value_or(32);
    s.beta_slow = rope.number("beta_slow", 1e-6, 1e6).value_or(1);
    if (s.beta_fast < s.beta_slow) rope.fail("beta_fast", "must not be below beta_slow");
    s.attention_factor = yarn_attention_factor(rope, s.factor);
    s.truncate = rope.boolean("truncate").value_or(true);
    also({"factor", "original_max_position_embeddings", "beta_fast", "beta_slow", "attention_factor",
          "mscale", "mscale_all_dim", "truncate"});
  } else if (kind != "default") {
    rope.fail("rope_type", "is " + kind + "; supported are default, linear, llama3 and yarn");
  }
  if (rope.number("partial_rotary_factor", 0, 1).value_or(1) != 1)
    rope.fail("partial_rotary_factor", "other than 1 is not supported");
  for (const auto& [name, value] : rope.object().items())
    if (std::find(known.begin(), known.end(), name) == known.end() && !is_off(value))
      rope.fail(name, "is not a field of rope type " + kind);
  return s;
}

void read_rope(ModelConfig& config, const JsonFields& fields) {
  const auto theta = fields.number("rope_theta", 1, kHuge);
  const nlohmann::json* scaling = fields.find("rope_scaling");
  const nlohmann::json* parameters =
      fields.find("rope_parameters");  // transformers 5 puts both in one object
  if (scaling != nullptr && parameters != nullptr && *scaling != *parameters)
    fields.fail("rope_scaling", "and rope_parameters contradict each other");
  std::optional<double> inner;
  if (const nlohmann::json* source = parameters != nullptr ? parameters : scaling) {
    const JsonFields rope(*source, fields.file(),
                          parameters != nullptr ? "rope_parameters." : "rope_scaling.");
    config.rope_scaling = parse_rope(rope, config.max_position_embeddings);
    inner = rope.number("rope_theta", 1, kHuge);
  }
  if (theta && inner && *theta != *inner) fields.fail("rope_theta", "is given twice, with different values");
  config.rope_theta = theta ? *theta : inner.value_or(10000.0);
  if (config.rope_scaling.kind == RopeScaling::Kind::kYarn && config.rope_theta <= 1)
    fields.fail("rope_theta", "must be above 1 for yarn");  // which divides by its logarithm
}

ModelConfig parse_fields(const nlohmann::json& object, const std::string& file) {
  const JsonFields fields(object, file);
  ModelConfig c;
  c.model_type = fields.string("model_type").value_or("llama");
  if (c.model_type != "llama" && c.model_type != "mistral")
    fields.fail("model_type", "is " + c.model_type + "; supported are llama and mistral");
  if (const nlohmann::json* names = fields.find("architectures"); names != nullptr) {
    const nlohmann::json expected = {c.model_type == "llama" ? "LlamaForCausalLM" : "MistralForCausalLM"};
    if (*names != expected)
      fields.fail("architectures", "is " + names->dump() + "; supported is " + expected.dump());
  }
  if (const nlohmann::json* quantised = fields.find("quantization_config")) {
    const JsonFields inner(*quantised, file, "quantization_config.");
    if (inner.string("quant_method").value_or("") != "stamp" || !inner.has("recipe"))
      fields.fail("quantization_config", "is not stamp's: give the unquantised model");
    if (inner.integer("version", 0, 1000) != kQuantisedVersion)
      fields.fail("quantization_config",
                  "is of another version of stamp: quantise the model again with `stamp quantize`");
    c.stored_recipe = inner.find("recipe")->dump();
  }
  c.vocab_size = fields.required_integer("vocab_size", 1, kMostDrawnFrom);
  c.hidden_size = fields.required_integer("hidden_size", 1, kMaxSize);
  c.intermediate_size = fields.required_integer("intermediate_size", 1, kMaxSize);
  c.layers = fields.required_integer("num_hidden_layers", 1, 4096);
  c.heads = fields.required_integer("num_attention_heads", 1, 65536);
  c.kv_heads =
      fields.integer("num_key_value_heads", 1, 65536).value_or(c.model_type == "mistral" ? 8 : c.heads);
  if (c.heads % c.kv_heads != 0)
    fields.fail("num_attention_heads", "must be a multiple of num_key_value_heads");
  if (!fields.has("head_dim") && c.hidden_size % c.heads != 0)
    fields.fail("hidden_size", "must be a multiple of num_attention_heads unless head_dim is given");
  c.head_dim = fields.integer("head_dim", 2, 65536).value_or(c.hidden_size / c.heads);
  if (c.head_dim % 2 != 0) fields.fail("head_dim", "is " + std::to_string(c.head_dim) + ", must be even");
  if (c.heads * c.head_dim > kMaxSize) fields.fail("head_dim", "times num_attention_heads is too large");
  c.max_position_embeddings = fields.integer("max_position_embeddings", 1, int64_t{1} << 24).value_or(2048);
  c.rms_norm_eps = float(fields.number("rms_norm_eps", 0, 1).value_or(1e-6));
  c.attention_bias = fields.boolean("attention_bias").value_or(false);
  c.mlp_bias = fields.boolean("mlp_bias").value_or(false);
  c.tie_word_embeddings = fields.boolean("tie_word_embeddings").value_or(false);
  if (const auto bos = fields.ids("bos_token_id", c.vocab_size - 1); !bos.empty())
    c.bos_token_id = bos.front();
  c.eos_token_ids = fields.ids("eos_token_id", c.vocab_size - 1);
  read_rope(c, fields);
  refuse_unknown_mathematics(fields);
  return c;
}

}  // namespace

ModelConfig ModelConfig::parse(std::string_view text, const std::string& file_name) {
  return parse_fields(parse_json(text, file_name), file_name);
}

ModelConfig ModelConfig::load(const std::filesystem::path& directory) {
  std::error_code error;
  if (!std::filesystem::is_directory(directory, error))
    throw InputError(directory.string() +
                     ": no such directory; --model takes the directory of a Hugging Face model");
  const auto file = directory / "config.json";
  return parse(read_file(file, kMaxConfigBytes), file.string());
}

GenerationConfig GenerationConfig::load(const std::filesystem::path& directory, const ModelConfig& config) {
  const auto file = directory / "generation_config.json";
  if (!is_present(file)) return parse("{}", file.string(), config);
  return parse(read_file(file, kMaxConfigBytes), file.string(), config);
}

GenerationConfig GenerationConfig::parse(std::string_view text, const std::string& file_name,
                                         const ModelConfig& config) {
  GenerationConfig g;
  g.eos_token_ids = config.eos_token_ids;
  const nlohmann::json object = parse_json(text, file_name);
  const JsonFields fields(object, file_name);
  const auto number = [&](const char* name, double low, double high) -> std::optional<float> {
    const auto x = fields.number(name, low, high);
    return x ? std::optional<float>(float(*x)) : std::nullopt;
  };
  g.do_sample = fields.boolean("do_sample").value_or(false);
  g.temperature = number("temperature", 0, 100);
  g.top_p = number("top_p", 1e-9, 1);
  g.min_p = number("min_p", 0, 1);
  g.repetition_penalty = number("repetition_penalty", 1e-3, 1e3);
  if (const auto k = fields.integer("top_k", 0, kMaxSize)) g.top_k = int32_t(*k);
  if (const auto eos = fields.ids("eos_token_id", config.vocab_size - 1); !eos.empty()) g.eos_token_ids = eos;
  return g;
}

}  // namespace stamp
