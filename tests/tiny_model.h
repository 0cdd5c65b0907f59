#pragma once
#include <bit>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "models/nlohmann.h"
#include "tests/temp_dir.h"

namespace stamp {

/// One tensor to be written: little-endian data of the dtype.
struct TinyTensor {
  std::string dtype;
  std::vector<int64_t> shape;
  std::string data;
};
using TinyTensors = std::map<std::string, TinyTensor>;

/// A safetensors file from a header and data as they are; the header is padded with spaces to 8 bytes.
inline std::string safetensors_bytes(std::string header, std::string_view data) {
  header.resize((header.size() + 7) / 8 * 8, ' ');
  std::string bytes(8, '\0');
  for (size_t i = 0; i < 8; ++i) bytes[i] = char(uint64_t(header.size()) >> (8 * i));
  return bytes + header + std::string(data);
}

/// The header of tensors that follow each other in the order of their names.
inline nlohmann::json safetensors_header(const TinyTensors& tensors) {
  nlohmann::json header{{"__metadata__", {{"format", "pt"}}}};
  size_t at = 0;
  for (const auto& [name, tensor] : tensors) {
    header[name] = {
        {"dtype", tensor.dtype}, {"shape", tensor.shape}, {"data_offsets", {at, at + tensor.data.size()}}};
    at += tensor.data.size();
  }
  return header;
}

inline std::string safetensors_data(const TinyTensors& tensors) {
  std::string data;
  for (const auto& [name, tensor] : tensors) data += tensor.data;
  return data;
}

inline std::string safetensors_bytes(const TinyTensors& tensors) {
  return safetensors_bytes(safetensors_header(tensors).dump(), safetensors_data(tensors));
}

inline TinyTensor f32_tensor(std::vector<int64_t> shape, const std::vector<float>& values) {
  std::string data(values.size() * sizeof(float), '\0');
  std::memcpy(data.data(), values.data(), data.size());
  return {"F32", std::move(shape), std::move(data)};
}

/// A Hugging Face model directory in memory, a few kilobytes of it: what tests damage, load and run.
/// The tokens are the 256 bytes, then the specials.
struct TinyModel {
  static constexpr int32_t kBos = 256, kEos = 257, kUser = 258, kAssistant = 259, kSystem = 260, kVocab = 264;
  nlohmann::ordered_json config, generation_config, tokenizer, tokenizer_config;
  TinyTensors tensors;

  void write(const std::filesystem::path& directory) const {
    write_file(directory / "config.json", config.dump(2));
    if (!generation_config.is_null())
      write_file(directory / "generation_config.json", generation_config.dump(2));
    write_file(directory / "tokenizer.json", tokenizer.dump());
    write_file(directory / "tokenizer_config.json", tokenizer_config.dump(2));
    write_file(directory / "model.safetensors", safetensors_bytes(tensors));
  }
};

namespace tiny {

/// The character that GPT-2's byte-level vocabulary writes for a byte.
inline std::string byte_level_character(int byte) {
  const auto printable = [](int b) { return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174; };
  int code = byte;
  if (!printable(byte)) {
    code = 256;
    for (int b = 0; b < byte; ++b) code += printable(b) ? 0 : 1;
  }
  if (code < 0x80) return {char(code)};
  return {char(0xc0 | code >> 6), char(0x80 | (code & 0x3f))};
}

/// Byte-level BPE without a merge; encoding adds BOS in front.
inline nlohmann::ordered_json tokenizer() {
  nlohmann::ordered_json vocab, added = nlohmann::ordered_json::array();
  for (int byte = 0; byte < 256; ++byte) vocab[byte_level_character(byte)] = byte;
  const char* specials[] = {"<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>"};
  for (int i = 0; i < 5; ++i) {
    vocab[specials[i]] = 256 + i;
    added.push_back({{"id", 256 + i},
                     {"content", specials[i]},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  }
  const nlohmann::ordered_json byte_level{
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
  const auto special = [](const char* id) {
    return nlohmann::ordered_json{{"SpecialToken", {{"id", id}, {"type_id", 0}}}};
  };
  const auto sequence = [](const char* id, int type) {
    return nlohmann::ordered_json{{"Sequence", {{"id", id}, {"type_id", type}}}};
  };
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", added},
          {"normalizer", nullptr},
          {"pre_tokenizer", byte_level},
          {"post_processor",
           {{"type", "TemplateProcessing"},
            {"single", nlohmann::ordered_json::array({special("<s>"), sequence("A", 0)})},
            {"pair", nlohmann::ordered_json::array({special("<s>"), sequence("A", 0), sequence("B", 1)})},
            {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", {256}}, {"tokens", {"<s>"}}}}}}}},
          {"decoder", byte_level},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"ignore_merges", false},
            {"vocab", vocab},
            {"merges", nlohmann::ordered_json::array()}}}};
}

inline nlohmann::ordered_json tokenizer_config() {
  return {{"tokenizer_class", "PreTrainedTokenizerFast"},
          {"bos_token", "<s>"},
          {"eos_token", "</s>"},
          {"chat_template",
           "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{% endfor %}"}};
}

inline nlohmann::ordered_json config(int64_t hidden) {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"vocab_size", TinyModel::kVocab},
          {"hidden_size", hidden},
          {"intermediate_size", 24},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"head_dim", 8},
          {"max_position_embeddings", 512},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", 10000.0},
          {"hidden_act", "silu"},
          {"tie_word_embeddings", false},
          {"bos_token_id", TinyModel::kBos},
          {"eos_token_id", TinyModel::kEos},
          {"torch_dtype", "float32"}};
}

/// Every tensor that the configuration asks for, each value drawn by `value(name)`.
template <class Value>
TinyTensors tensors(const nlohmann::ordered_json& config, Value&& value) {
  const int64_t hidden = config["hidden_size"], mlp = config["intermediate_size"], d = config["head_dim"];
  const int64_t q = d * int64_t(config["num_attention_heads"]),
                kv = d * int64_t(config["num_key_value_heads"]);
  TinyTensors all;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
    size_t size = 1;
    for (int64_t n : shape) size *= size_t(n);
    std::vector<float> values(size);
    for (float& x : values) x = value(name);
    all[name] = f32_tensor(std::move(shape), values);
  };
  add("model.embed_tokens.weight", {config["vocab_size"], hidden});
  add("lm_head.weight", {config["vocab_size"], hidden});
  add("model.norm.weight", {hidden});
  for (int i = 0; i < config["num_hidden_layers"]; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    add(layer + "input_layernorm.weight", {hidden});
    add(layer + "self_attn.q_proj.weight", {q, hidden});
    add(layer + "self_attn.k_proj.weight", {kv, hidden});
    add(layer + "self_attn.v_proj.weight", {kv, hidden});
    add(layer + "self_attn.o_proj.weight", {hidden, q});
    add(layer + "post_attention_layernorm.weight", {hidden});
    add(layer + "mlp.gate_proj.weight", {mlp, hidden});
    add(layer + "mlp.up_proj.weight", {mlp, hidden});
    add(layer + "mlp.down_proj.weight", {hidden, mlp});
  }
  return all;
}

}  // namespace tiny

/// Random weights from a seed: says nothing sensible, but every part of the forward pass matters.
inline TinyModel random_model(uint32_t seed, const nlohmann::ordered_json& config) {
  TinyModel model{config, nullptr, tiny::tokenizer(), tiny::tokenizer_config(), {}};
  std::mt19937 rng(seed);
  model.tensors = tiny::tensors(model.config, [&](const std::string& name) {
    const float uniform = float(int32_t(rng() % 20001) - 10000) * 1e-4f;  // [-1, 1]
    return name.ends_with("norm.weight") ? 1.0f + 0.1f * uniform : 0.5f * uniform;
  });
  return model;
}

inline TinyModel random_model(uint32_t seed = 1, int64_t hidden = 16) {
  return random_model(seed, tiny::config(hidden));
}

/// Counts: after each byte comes the next one, after 'z' the end of the sequence, after ' ' and '9' the '0';
/// `next` names exceptions. Attention and MLP add nothing; the embedding is one-hot and the head moves it on,
/// so what the model says is known by heart while everything around the weights is the real thing.
inline TinyModel counting_model(const std::map<int, int>& next = {}) {
  constexpr int64_t kHidden = TinyModel::kVocab;
  TinyModel model{tiny::config(kHidden), nullptr, tiny::tokenizer(), tiny::tokenizer_config(), {}};
  model.tensors = tiny::tensors(
      model.config, [](const std::string& name) { return name.ends_with("norm.weight") ? 1.0f : 0.0f; });
  std::vector<float> embedding(kHidden * kHidden), head(kHidden * kHidden);
  for (int id = 0; id < kHidden; ++id) {
    const int usual = id == 'z' ? TinyModel::kEos : id == '9' || id == ' ' ? '0' : id < 255 ? id + 1 : 'a';
    const int64_t to = next.contains(id) ? next.at(id) : usual;
    embedding[size_t(id * kHidden + id)] = 1.0f;
    head[size_t(to * kHidden + id)] = 4.0f;
  }
  model.tensors["model.embed_tokens.weight"] = f32_tensor({kHidden, kHidden}, embedding);
  model.tensors["lm_head.weight"] = f32_tensor({kHidden, kHidden}, head);
  return model;
}

}  // namespace stamp
