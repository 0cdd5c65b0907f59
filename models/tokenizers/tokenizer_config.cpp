#include "models/tokenizers/tokenizer_config.h"

#include <charconv>

#include "models/json.h"
#include "models/tokenizers/bpe.h"

namespace stamp {
namespace {

/// The content of a token, which is a string or an object that has it; `name` is for errors.
std::string read_token(const nlohmann::json& token, const JsonFields& fields, const std::string& name) {
  const std::string content =
      token.is_string() ? token.get<std::string>()
                        : JsonFields(token, fields.file(), name + ".").string("content").value_or("");
  if (content.empty()) fields.fail(name, "has no content");
  return content;
}

/// The field `name`: null is no token, and where it is absent `otherwise` holds.
std::optional<std::string> read_field(const JsonFields& fields, const char* name,
                                      std::optional<std::string> otherwise) {
  if (!fields.object().contains(name)) return otherwise;
  const nlohmann::json* token = fields.find(name);
  return token == nullptr ? std::nullopt : std::optional(read_token(*token, fields, name));
}

AddedToken read_added_token(const JsonFields& token) {
  const std::string content = token.string("content").value_or("");
  if (content.empty()) token.fail("content", "is missing");
  return {.content = content,
          .single_word = token.boolean("single_word").value_or(false),
          .lstrip = token.boolean("lstrip").value_or(false),
          .rstrip = token.boolean("rstrip").value_or(false),
          .normalized = false,  // the class looks for all of them in the text as it is
          .special = token.boolean("special").value_or(false)};
}

}  // namespace

void TokenizerConfig::read(const std::filesystem::path& directory) {
  const std::filesystem::path file = directory / "tokenizer_config.json";
  if (!std::filesystem::exists(file)) return;
  const nlohmann::json object = read_json_file(file);
  const JsonFields fields(object, file.string());
  const std::string kind = fields.string("tokenizer_class").value_or("LlamaTokenizer");
  if (kind != "LlamaTokenizer" && kind != "LlamaTokenizerFast")
    fields.fail("tokenizer_class", "is " + kind + "; with a tokenizer.model LlamaTokenizer is supported");
  add_bos = fields.boolean("add_bos_token").value_or(true);
  add_eos = fields.boolean("add_eos_token").value_or(false);
  legacy = fields.boolean("legacy").value_or(false);
  add_prefix_space = fields.boolean("add_prefix_space").value_or(true);
  if (const nlohmann::json* options = fields.find("sp_model_kwargs"); options != nullptr && !options->empty())
    fields.fail("sp_model_kwargs", "is not supported");
  bos = read_field(fields, "bos_token", bos);
  eos = read_field(fields, "eos_token", eos);
  unk = read_field(fields, "unk_token", unk);
  for (const char* name :
       {"bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token"})
    if (const auto token = read_field(fields, name, std::nullopt)) named.insert(*token);
  if (const nlohmann::json* more = fields.find("additional_special_tokens")) {
    if (!more->is_array()) fields.fail("additional_special_tokens", "must be an array");
    for (const nlohmann::json& token : *more)
      named.insert(read_token(token, fields, "additional_special_tokens"));
  }
  const nlohmann::json* decoder = fields.find("added_tokens_decoder");
  if (decoder == nullptr) return;
  if (!decoder->is_object()) fields.fail("added_tokens_decoder", "must be an object of ids and their tokens");
  for (const auto& [key, value] : decoder->items()) {
    int32_t id = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size() || id < 0 || id > Bpe::kMaxId)
      fields.fail("added_tokens_decoder", "has the key \"" + key + "\", which is no id");
    added[id] = read_added_token(JsonFields(value, file.string(), "added_tokens_decoder." + key + "."));
  }
}

}  // namespace stamp
